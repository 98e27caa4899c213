// ----- import
cgc.graph @gpipe level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %2 = cgc.call @a1::@forward(%1) : !cgc.object
    %3 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %4 = cgc.call @a1::@forward(%3) : !cgc.object
    %5 = cgc.call @a1::@backward(%2) : !cgc.tensor<default, via accelerator>
    %6 = cgc.call @a0::@backward(%5) : !cgc.object
    %7 = cgc.call @a1::@backward(%4) : !cgc.tensor<default, via accelerator>
    %8 = cgc.call @a0::@backward(%7) : !cgc.object
    cgc.output [%6, %8]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @gpipe level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %2 = cgc.call @a1::@forward(%1) : !cgc.object
    %3 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %4 = cgc.call @a1::@forward(%3) : !cgc.object
    %5 = cgc.call @a1::@backward(%2) : !cgc.tensor<default, via nccl>
    %6 = cgc.call @a0::@backward(%5) : !cgc.object
    %7 = cgc.call @a1::@backward(%4) : !cgc.tensor<default, via nccl>
    %8 = cgc.call @a0::@backward(%7) : !cgc.object
    cgc.output [%6, %8]
  }
}

// ----- after place-devices
cgc.graph @gpipe level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a0] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a0::@forward(%1) : !cgc.tensor<default>
    %3 = cgc.transfer %2 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %4 = cgc.call @a1::@forward(%3) : !cgc.object
    %5 = cgc.call @a0::@forward(%1) : !cgc.tensor<default>
    %6 = cgc.transfer %5 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %7 = cgc.call @a1::@forward(%6) : !cgc.object
    %8 = cgc.call @a1::@backward(%4) : !cgc.tensor<default>
    %9 = cgc.transfer %8 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %10 = cgc.call @a0::@backward(%9) : !cgc.object
    %11 = cgc.transfer %10 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %12 = cgc.call @a1::@backward(%7) : !cgc.tensor<default>
    %13 = cgc.transfer %12 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %14 = cgc.call @a0::@backward(%13) : !cgc.object
    %15 = cgc.transfer %14 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%11, %15]
  }
}

// ----- after pair-comm
cgc.graph @gpipe level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 4 from @a0 via shm order 7 : !cgc.object
    %2 = cgc.recv message 6 from @a0 via shm order 9 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 2
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %2 message 2 to [@a1] via nccl order 3
    %3 = cgc.recv message 3 from @a1 via nccl order 4 : !cgc.tensor<default>
    %4 = cgc.call @a0::@backward(%3) : !cgc.object
    %5 = cgc.recv message 5 from @a1 via nccl order 5 : !cgc.tensor<default>
    cgc.send %4 message 4 to [@driver] via shm order 6
    %6 = cgc.call @a0::@backward(%5) : !cgc.object
    cgc.send %6 message 6 to [@driver] via shm order 8
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.object
    %2 = cgc.recv message 2 from @a0 via nccl order 3 : !cgc.tensor<default>
    %3 = cgc.call @a1::@forward(%2) : !cgc.object
    %4 = cgc.call @a1::@backward(%1) : !cgc.tensor<default>
    cgc.send %4 message 3 to [@a0] via nccl order 4
    %5 = cgc.call @a1::@backward(%3) : !cgc.tensor<default>
    cgc.send %5 message 5 to [@a0] via nccl order 5
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged
// WhyNoGroup: messages between @a0 and @a1: each needs another one that it could go with, or would hold up what waits for a shorter one

// ----- after allocate-channels
cgc.graph @gpipe level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c5 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2 = cgc.read @c5 messages [4, 6] order 7 : !cgc.object, !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c2(%2) messages [2] order 3
    %3 = cgc.read @c3 messages [3] order 4 : !cgc.tensor<default>
    %4 = cgc.call @a0::@backward(%3) : !cgc.object
    %5 = cgc.read @c4 messages [5] order 5 : !cgc.tensor<default>
    %6 = cgc.call @a0::@backward(%5) : !cgc.object
    cgc.write @c5(%4, %6) messages [4, 6] order 6
  }
  cgc.program @a1 {
    %0 = cgc.read @c1 messages [1] order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.object
    %2 = cgc.read @c2 messages [2] order 3 : !cgc.tensor<default>
    %3 = cgc.call @a1::@forward(%2) : !cgc.object
    %4 = cgc.call @a1::@backward(%1) : !cgc.tensor<default>
    cgc.write @c3(%4) messages [3] order 4
    %5 = cgc.call @a1::@backward(%3) : !cgc.tensor<default>
    cgc.write @c4(%5) messages [5] order 5
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of gpipe (v2)  registers=3
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2 = read c5
//   3  output r1, r2
//
// program @a0 of gpipe (v2)  registers=7  device=gpu
//   0  r0 = read c0
//   1  r1 = call forward(r0)
//   2  write c1 r1    drop r1
//   3  r2 = call forward(r0)    drop r0
//   4  write c2 r2    drop r2
//   5  r3 = read c3
//   6  r4 = call backward(r3)    drop r3
//   7  r5 = read c4
//   8  r6 = call backward(r5)    drop r5
//   9  write c5 r4, r6    drop r4, r6
//
// program @a1 of gpipe (v2)  registers=6  device=gpu
//   0  r0 = read c1
//   1  r1 = call forward(r0)    drop r0
//   2  r2 = read c2
//   3  r3 = call forward(r2)    drop r2
//   4  r4 = call backward(r1)    drop r1
//   5  write c3 r4    drop r4
//   6  r5 = call backward(r3)    drop r3
//   7  write c4 r5    drop r5

//         µs  @driver/execute  @driver/get  @a0         @a1
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*
//      104.0                                forward*
//     1104.0                                write @c1*  read @c1
//     1219.0                                forward*    forward
//     2219.0                                write @c2*  read @c2*
//     2334.0                                            forward*
//     3334.0                                            backward*
//     5334.0                                read @c3    write @c3*
//     5449.0                                backward    backward*
//     7449.0                                read @c4*   write @c4*
//     7564.0                                backward*
//     9564.0                                write @c5*
//     9767.0                   read @c5*
//     9768.0                   output*
//     9768.0  end; * is the longest path
