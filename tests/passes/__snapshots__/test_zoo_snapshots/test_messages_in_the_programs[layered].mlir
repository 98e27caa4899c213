// ----- import
cgc.graph @layered level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Layer" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Layer" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Layer" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@call0(%0) : !cgc.object
    %2 = cgc.call @a1::@call0(%1) : !cgc.tensor<default, via accelerator>
    %3 = cgc.call @a1::@call3(%1) : !cgc.tensor<default, via accelerator>
    %4 = cgc.call @a0::@call3(%3) : !cgc.tensor<default, via accelerator>
    %5 = cgc.call @a1::@call1(%2, %3) : !cgc.tensor<default, via accelerator>
    %6 = cgc.call @a0::@call0(%4, %5) : !cgc.tensor<default, via accelerator>
    %7 = cgc.call @a2::@call0(%4, %5) : !cgc.tensor<default, via accelerator>
    %8 = cgc.call @a0::@join(%6, %7) : !cgc.object
    cgc.output %8
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @layered level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Layer" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Layer" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Layer" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@call0(%0) : !cgc.object
    %2 = cgc.call @a1::@call0(%1) : !cgc.tensor<default, via nccl>
    %3 = cgc.call @a1::@call3(%1) : !cgc.tensor<default, via nccl>
    %4 = cgc.call @a0::@call3(%3) : !cgc.tensor<default, via nccl>
    %5 = cgc.call @a1::@call1(%2, %3) : !cgc.tensor<default, via nccl>
    %6 = cgc.call @a0::@call0(%4, %5) : !cgc.tensor<default, via nccl>
    %7 = cgc.call @a2::@call0(%4, %5) : !cgc.tensor<default, via nccl>
    %8 = cgc.call @a0::@join(%6, %7) : !cgc.object
    cgc.output %8
  }
}

// ----- after place-devices
cgc.graph @layered level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Layer" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Layer" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Layer" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a0] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a0::@call0(%1) : !cgc.object
    %3 = cgc.transfer %2 from @a0 to [@a1] via shm reason "same node" : !cgc.object
    %4 = cgc.call @a1::@call0(%3) : !cgc.tensor<default>
    %5 = cgc.call @a1::@call3(%3) : !cgc.tensor<default>
    %6 = cgc.transfer %5 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %7 = cgc.call @a0::@call3(%6) : !cgc.tensor<default>
    %8 = cgc.transfer %7 from @a0 to [@a2] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %9 = cgc.call @a1::@call1(%4, %5) : !cgc.tensor<default>
    %10 = cgc.transfer %9 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %11 = cgc.transfer %9 from @a1 to [@a2] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %12 = cgc.call @a0::@call0(%7, %10) : !cgc.tensor<default>
    %13 = cgc.call @a2::@call0(%8, %11) : !cgc.tensor<default>
    %14 = cgc.transfer %13 from @a2 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %15 = cgc.call @a0::@join(%12, %14) : !cgc.object
    %16 = cgc.transfer %15 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output %16
  }
}

// ----- after pair-comm
cgc.graph @layered level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Layer" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Layer" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Layer" on "n0" devices ["gpu:2"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 7 from @a0 via shm order 10 : !cgc.object
    cgc.output %1
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@call0(%0) : !cgc.object
    cgc.send %1 message 1 to [@a1] via shm order 2
    %2 = cgc.recv message 2 from @a1 via nccl order 4 : !cgc.tensor<default>
    %3 = cgc.call @a0::@call3(%2) : !cgc.tensor<default>
    cgc.send %3 message 3 to [@a2] via nccl order 6
    %4 = cgc.recv message 4 from @a1 via nccl order 7 : !cgc.tensor<default>
    %5 = cgc.call @a0::@call0(%3, %4) : !cgc.tensor<default>
    %6 = cgc.recv message 6 from @a2 via nccl order 8 : !cgc.tensor<default>
    %7 = cgc.call @a0::@join(%5, %6) : !cgc.object
    cgc.send %7 message 7 to [@driver] via shm order 9
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via shm order 3 : !cgc.object
    %1 = cgc.call @a1::@call0(%0) : !cgc.tensor<default>
    %2 = cgc.call @a1::@call3(%0) : !cgc.tensor<default>
    cgc.send %2 message 2 to [@a0] via nccl order 4
    %3 = cgc.call @a1::@call1(%1, %2) : !cgc.tensor<default>
    cgc.send %3 message 5 to [@a2] via nccl order 5
    cgc.send %3 message 4 to [@a0] via nccl order 7
  }
  cgc.program @a2 {
    %0 = cgc.recv message 5 from @a1 via nccl order 5 : !cgc.tensor<default>
    %1 = cgc.recv message 3 from @a0 via nccl order 6 : !cgc.tensor<default>
    %2 = cgc.call @a2::@call0(%1, %0) : !cgc.tensor<default>
    cgc.send %2 message 6 to [@a0] via nccl order 8
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged
// WhyNoGroup: messages between @a0 and @a2: each needs another one that it could go with, or would hold up what waits for a shorter one

// ----- after allocate-channels
cgc.graph @layered level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Layer" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Layer" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Layer" on "n0" devices ["gpu:2"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a2] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a0 to [@a2] slots 10 slot_bytes 4096
  cgc.channel @c5 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c6 nccl from @a2 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c7 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c7 messages [7] order 10 : !cgc.object
    cgc.output %1
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@call0(%0) : !cgc.object
    cgc.write @c1(%1) messages [1] order 2
    %2 = cgc.read @c2 messages [2] order 4 : !cgc.tensor<default>
    %3 = cgc.call @a0::@call3(%2) : !cgc.tensor<default>
    cgc.write @c4(%3) messages [3] order 6
    %4 = cgc.read @c5 messages [4] order 7 : !cgc.tensor<default>
    %5 = cgc.call @a0::@call0(%3, %4) : !cgc.tensor<default>
    %6 = cgc.read @c6 messages [6] order 8 : !cgc.tensor<default>
    %7 = cgc.call @a0::@join(%5, %6) : !cgc.object
    cgc.write @c7(%7) messages [7] order 9
  }
  cgc.program @a1 {
    %0 = cgc.read @c1 messages [1] order 3 : !cgc.object
    %1 = cgc.call @a1::@call0(%0) : !cgc.tensor<default>
    %2 = cgc.call @a1::@call3(%0) : !cgc.tensor<default>
    cgc.write @c2(%2) messages [2] order 4
    %3 = cgc.call @a1::@call1(%1, %2) : !cgc.tensor<default>
    cgc.write @c3(%3) messages [5] order 5
    cgc.write @c5(%3) messages [4] order 7
  }
  cgc.program @a2 {
    %0 = cgc.read @c3 messages [5] order 5 : !cgc.tensor<default>
    %1 = cgc.read @c4 messages [3] order 6 : !cgc.tensor<default>
    %2 = cgc.call @a2::@call0(%1, %0) : !cgc.tensor<default>
    cgc.write @c6(%2) messages [6] order 8
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of layered (v2)  registers=2
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c7
//   3  output r1
//
// program @a0 of layered (v2)  registers=8  device=gpu
//    0  r0 = read c0
//    1  r1 = call call0(r0)    drop r0
//    2  write c1 r1    drop r1
//    3  r2 = read c2
//    4  r3 = call call3(r2)    drop r2
//    5  write c4 r3
//    6  r4 = read c5
//    7  r5 = call call0(r3, r4)    drop r3, r4
//    8  r6 = read c6
//    9  r7 = call join(r5, r6)    drop r5, r6
//   10  write c7 r7    drop r7
//
// program @a1 of layered (v2)  registers=4  device=gpu
//   0  r0 = read c1
//   1  r1 = call call0(r0)
//   2  r2 = call call3(r0)    drop r0
//   3  write c2 r2
//   4  r3 = call call1(r1, r2)    drop r1, r2
//   5  write c3 r3
//   6  write c5 r3    drop r3
//
// program @a2 of layered (v2)  registers=3  device=gpu
//   0  r0 = read c3
//   1  r1 = read c4
//   2  r2 = call call0(r1, r0)    drop r0, r1
//   3  write c6 r2    drop r2

//         µs  @driver/execute  @driver/get  @a0         @a1         @a2
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*
//      104.0                                call0*
//      604.0                                write @c1*
//      707.0                                            read @c1*
//      708.0                                            call0*
//     1208.0                                            call3*
//     5208.0                                read @c2*   write @c2*
//     5323.0                                call3*      call1
//     6323.0                                            write @c3   read @c3
//     9323.0                                write @c4*              read @c4
//     9438.0                                read @c5*   write @c5   call0
//     9553.0                                call0*
//    10053.0                                read @c6*               write @c6
//    10168.0                                join*
//    10268.0                                write @c7*
//    10371.0                   read @c7*
//    10372.0                   output*
//    10372.0  end; * is the longest path
