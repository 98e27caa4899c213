// ----- import
cgc.graph @one_f_one_b level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %2 = cgc.call @a1::@forward(%1) : !cgc.object
    %3 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %4 = cgc.call @a1::@backward(%2) : !cgc.tensor<default, via accelerator>
    %5 = cgc.call @a0::@backward(%4) : !cgc.object
    %6 = cgc.call @a1::@forward(%3) : !cgc.object
    %7 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %8 = cgc.call @a1::@backward(%6) : !cgc.tensor<default, via accelerator>
    %9 = cgc.call @a0::@backward(%8) : !cgc.object
    %10 = cgc.call @a1::@forward(%7) : !cgc.object
    %11 = cgc.call @a1::@backward(%10) : !cgc.tensor<default, via accelerator>
    %12 = cgc.call @a0::@backward(%11) : !cgc.object
    cgc.output [%5, %9, %12]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @one_f_one_b level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %2 = cgc.call @a1::@forward(%1) : !cgc.object
    %3 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %4 = cgc.call @a1::@backward(%2) : !cgc.tensor<default, via nccl>
    %5 = cgc.call @a0::@backward(%4) : !cgc.object
    %6 = cgc.call @a1::@forward(%3) : !cgc.object
    %7 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %8 = cgc.call @a1::@backward(%6) : !cgc.tensor<default, via nccl>
    %9 = cgc.call @a0::@backward(%8) : !cgc.object
    %10 = cgc.call @a1::@forward(%7) : !cgc.object
    %11 = cgc.call @a1::@backward(%10) : !cgc.tensor<default, via nccl>
    %12 = cgc.call @a0::@backward(%11) : !cgc.object
    cgc.output [%5, %9, %12]
  }
}

// ----- after place-devices
cgc.graph @one_f_one_b level = placed, max_inflight = 10 {
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
    %7 = cgc.call @a1::@backward(%4) : !cgc.tensor<default>
    %8 = cgc.transfer %7 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %9 = cgc.call @a0::@backward(%8) : !cgc.object
    %10 = cgc.transfer %9 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %11 = cgc.call @a1::@forward(%6) : !cgc.object
    %12 = cgc.call @a0::@forward(%1) : !cgc.tensor<default>
    %13 = cgc.transfer %12 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %14 = cgc.call @a1::@backward(%11) : !cgc.tensor<default>
    %15 = cgc.transfer %14 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %16 = cgc.call @a0::@backward(%15) : !cgc.object
    %17 = cgc.transfer %16 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %18 = cgc.call @a1::@forward(%13) : !cgc.object
    %19 = cgc.call @a1::@backward(%18) : !cgc.tensor<default>
    %20 = cgc.transfer %19 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %21 = cgc.call @a0::@backward(%20) : !cgc.object
    %22 = cgc.transfer %21 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%10, %17, %22]
  }
}

// ----- after pair-comm
cgc.graph @one_f_one_b level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 4 from @a0 via shm order 6 : !cgc.object
    %2 = cgc.recv message 7 from @a0 via shm order 10 : !cgc.object
    %3 = cgc.recv message 9 from @a0 via shm order 13 : !cgc.object
    cgc.output [%1, %2, %3]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 2
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %2 message 2 to [@a1] via nccl order 3
    %3 = cgc.recv message 3 from @a1 via nccl order 4 : !cgc.tensor<default>
    %4 = cgc.call @a0::@backward(%3) : !cgc.object
    cgc.send %4 message 4 to [@driver] via shm order 5
    %5 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %5 message 5 to [@a1] via nccl order 7
    %6 = cgc.recv message 6 from @a1 via nccl order 8 : !cgc.tensor<default>
    %7 = cgc.call @a0::@backward(%6) : !cgc.object
    cgc.send %7 message 7 to [@driver] via shm order 9
    %8 = cgc.recv message 8 from @a1 via nccl order 11 : !cgc.tensor<default>
    %9 = cgc.call @a0::@backward(%8) : !cgc.object
    cgc.send %9 message 9 to [@driver] via shm order 12
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.object
    %2 = cgc.recv message 2 from @a0 via nccl order 3 : !cgc.tensor<default>
    %3 = cgc.call @a1::@backward(%1) : !cgc.tensor<default>
    cgc.send %3 message 3 to [@a0] via nccl order 4
    %4 = cgc.call @a1::@forward(%2) : !cgc.object
    %5 = cgc.call @a1::@backward(%4) : !cgc.tensor<default>
    %6 = cgc.recv message 5 from @a0 via nccl order 7 : !cgc.tensor<default>
    cgc.send %5 message 6 to [@a0] via nccl order 8
    %7 = cgc.call @a1::@forward(%6) : !cgc.object
    %8 = cgc.call @a1::@backward(%7) : !cgc.tensor<default>
    cgc.send %8 message 8 to [@a0] via nccl order 11
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm
// WhyNoGroup: messages between @a0 and @a1: each needs another one that it could go with, or would hold up what waits for a shorter one
cgc.graph @one_f_one_b level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 4 from @a0 via shm order 6 : !cgc.object
    %2 = cgc.recv message 7 from @a0 via shm order 10 : !cgc.object
    %3 = cgc.recv message 9 from @a0 via shm order 13 : !cgc.object
    cgc.output [%1, %2, %3]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 2
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %3 = cgc.group {
      %4 = cgc.recv message 3 from @a1 via nccl order 4 : !cgc.tensor<default>
      cgc.send %2 message 2 to [@a1] via nccl order 4
      cgc.yield(%4)
    }
    %5 = cgc.call @a0::@backward(%3) : !cgc.object
    cgc.send %5 message 4 to [@driver] via shm order 5
    %6 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %7 = cgc.group {
      cgc.send %6 message 5 to [@a1] via nccl order 7
      %8 = cgc.recv message 6 from @a1 via nccl order 7 : !cgc.tensor<default>
      cgc.yield(%8)
    }
    %9 = cgc.call @a0::@backward(%7) : !cgc.object
    cgc.send %9 message 7 to [@driver] via shm order 9
    %10 = cgc.recv message 8 from @a1 via nccl order 11 : !cgc.tensor<default>
    %11 = cgc.call @a0::@backward(%10) : !cgc.object
    cgc.send %11 message 9 to [@driver] via shm order 12
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.object
    %2 = cgc.call @a1::@backward(%1) : !cgc.tensor<default>
    %3 = cgc.group {
      cgc.send %2 message 3 to [@a0] via nccl order 4
      %4 = cgc.recv message 2 from @a0 via nccl order 4 : !cgc.tensor<default>
      cgc.yield(%4)
    }
    %5 = cgc.call @a1::@forward(%3) : !cgc.object
    %6 = cgc.call @a1::@backward(%5) : !cgc.tensor<default>
    %7 = cgc.group {
      %8 = cgc.recv message 5 from @a0 via nccl order 7 : !cgc.tensor<default>
      cgc.send %6 message 6 to [@a0] via nccl order 7
      cgc.yield(%8)
    }
    %9 = cgc.call @a1::@forward(%7) : !cgc.object
    %10 = cgc.call @a1::@backward(%9) : !cgc.tensor<default>
    cgc.send %10 message 8 to [@a0] via nccl order 11
  }
}

// ----- after allocate-channels
cgc.graph @one_f_one_b level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c5 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c6 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c7 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2, %3 = cgc.read @c4 messages [4, 7, 9] order 7 : !cgc.object, !cgc.object, !cgc.object
    cgc.output [%1, %2, %3]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %3 = cgc.group {
      %4 = cgc.read @c3 messages [3] order 3 : !cgc.tensor<default>
      cgc.write @c2(%2) messages [2] order 3
      cgc.yield(%4)
    }
    %5 = cgc.call @a0::@backward(%3) : !cgc.object
    %6 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %7 = cgc.group {
      cgc.write @c5(%6) messages [5] order 4
      %8 = cgc.read @c6 messages [6] order 4 : !cgc.tensor<default>
      cgc.yield(%8)
    }
    %9 = cgc.call @a0::@backward(%7) : !cgc.object
    %10 = cgc.read @c7 messages [8] order 5 : !cgc.tensor<default>
    %11 = cgc.call @a0::@backward(%10) : !cgc.object
    cgc.write @c4(%5, %9, %11) messages [4, 7, 9] order 6
  }
  cgc.program @a1 {
    %0 = cgc.read @c1 messages [1] order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.object
    %2 = cgc.call @a1::@backward(%1) : !cgc.tensor<default>
    %3 = cgc.group {
      cgc.write @c3(%2) messages [3] order 3
      %4 = cgc.read @c2 messages [2] order 3 : !cgc.tensor<default>
      cgc.yield(%4)
    }
    %5 = cgc.call @a1::@forward(%3) : !cgc.object
    %6 = cgc.call @a1::@backward(%5) : !cgc.tensor<default>
    %7 = cgc.group {
      %8 = cgc.read @c5 messages [5] order 4 : !cgc.tensor<default>
      cgc.write @c6(%6) messages [6] order 4
      cgc.yield(%8)
    }
    %9 = cgc.call @a1::@forward(%7) : !cgc.object
    %10 = cgc.call @a1::@backward(%9) : !cgc.tensor<default>
    cgc.write @c7(%10) messages [8] order 5
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of one_f_one_b (v2)  registers=4
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2, r3 = read c4
//   3  output r1, r2, r3
//
// program @a0 of one_f_one_b (v2)  registers=10  device=gpu
//    0  r0 = read c0
//    1  r1 = call forward(r0)
//    2  write c1 r1    drop r1
//    3  r2 = call forward(r0)
//    4  group { r3 = read c3; write c2 r2 }    drop r2
//    5  r4 = call backward(r3)    drop r3
//    6  r5 = call forward(r0)    drop r0
//    7  group { write c5 r5; r6 = read c6 }    drop r5
//    8  r7 = call backward(r6)    drop r6
//    9  r8 = read c7
//   10  r9 = call backward(r8)    drop r8
//   11  write c4 r4, r7, r9    drop r4, r7, r9
//
// program @a1 of one_f_one_b (v2)  registers=9  device=gpu
//   0  r0 = read c1
//   1  r1 = call forward(r0)    drop r0
//   2  r2 = call backward(r1)    drop r1
//   3  group { write c3 r2; r3 = read c2 }    drop r2
//   4  r4 = call forward(r3)    drop r3
//   5  r5 = call backward(r4)    drop r4
//   6  group { r6 = read c5; write c6 r5 }    drop r5
//   7  r7 = call forward(r6)    drop r6
//   8  r8 = call backward(r7)    drop r7
//   9  write c7 r8    drop r8

//         µs  @driver/execute  @driver/get  @a0                    @a1
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*
//      104.0                                forward*
//     1104.0                                write @c1*             read @c1*
//     1219.0                                forward                forward*
//     2219.0                                                       backward*
//     4219.0                                read @c3 + write @c2*  write @c3 + read @c2*
//     4334.0                                backward*              forward
//     5334.0                                                       backward
//     6334.0                                forward*
//     7334.0                                write @c5 + read @c6*  read @c5 + write @c6*
//     7449.0                                backward               forward*
//     8449.0                                                       backward*
//    10449.0                                read @c7*              write @c7*
//    10564.0                                backward*
//    12564.0                                write @c4*
//    12867.0                   read @c4*
//    12868.0                   output*
//    12868.0  end; * is the longest path
