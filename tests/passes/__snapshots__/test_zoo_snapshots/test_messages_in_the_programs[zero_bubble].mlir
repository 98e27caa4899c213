// ----- import
cgc.graph @zero_bubble level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "SplitStage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "SplitStage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %2 = cgc.call @a1::@forward(%1) : !cgc.object
    %3 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %4 = cgc.call @a1::@backward(%2) : !cgc.tensor<default, via accelerator>
    %5 = cgc.call @a0::@backward(%4) : !cgc.object
    %6 = cgc.call @a1::@forward(%3) : !cgc.object
    %7 = cgc.call @a0::@weights(%5) : !cgc.object
    %8 = cgc.call @a1::@backward(%6) : !cgc.tensor<default, via accelerator>
    %9 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %10 = cgc.call @a1::@weights(%4) : !cgc.object
    %11 = cgc.call @a0::@backward(%8) : !cgc.object
    %12 = cgc.call @a1::@forward(%9) : !cgc.object
    %13 = cgc.call @a0::@weights(%11) : !cgc.object
    %14 = cgc.call @a1::@backward(%12) : !cgc.tensor<default, via accelerator>
    %15 = cgc.call @a0::@backward(%14) : !cgc.object
    %16 = cgc.call @a1::@weights(%8) : !cgc.object
    %17 = cgc.call @a0::@weights(%15) : !cgc.object
    %18 = cgc.call @a1::@weights(%14) : !cgc.object
    cgc.output [%5, %7, %10, %11, %13, %15, %16, %17, %18]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @zero_bubble level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "SplitStage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "SplitStage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %2 = cgc.call @a1::@forward(%1) : !cgc.object
    %3 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %4 = cgc.call @a1::@backward(%2) : !cgc.tensor<default, via nccl>
    %5 = cgc.call @a0::@backward(%4) : !cgc.object
    %6 = cgc.call @a1::@forward(%3) : !cgc.object
    %7 = cgc.call @a0::@weights(%5) : !cgc.object
    %8 = cgc.call @a1::@backward(%6) : !cgc.tensor<default, via nccl>
    %9 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %10 = cgc.call @a1::@weights(%4) : !cgc.object
    %11 = cgc.call @a0::@backward(%8) : !cgc.object
    %12 = cgc.call @a1::@forward(%9) : !cgc.object
    %13 = cgc.call @a0::@weights(%11) : !cgc.object
    %14 = cgc.call @a1::@backward(%12) : !cgc.tensor<default, via nccl>
    %15 = cgc.call @a0::@backward(%14) : !cgc.object
    %16 = cgc.call @a1::@weights(%8) : !cgc.object
    %17 = cgc.call @a0::@weights(%15) : !cgc.object
    %18 = cgc.call @a1::@weights(%14) : !cgc.object
    cgc.output [%5, %7, %10, %11, %13, %15, %16, %17, %18]
  }
}

// ----- after place-devices
cgc.graph @zero_bubble level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "SplitStage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "SplitStage" on "n0" devices ["gpu:1"]
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
    %12 = cgc.call @a0::@weights(%9) : !cgc.object
    %13 = cgc.transfer %12 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %14 = cgc.call @a1::@backward(%11) : !cgc.tensor<default>
    %15 = cgc.transfer %14 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %16 = cgc.call @a0::@forward(%1) : !cgc.tensor<default>
    %17 = cgc.transfer %16 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %18 = cgc.call @a1::@weights(%7) : !cgc.object
    %19 = cgc.transfer %18 from @a1 to [@driver] via shm reason "same node" : !cgc.object
    %20 = cgc.call @a0::@backward(%15) : !cgc.object
    %21 = cgc.transfer %20 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %22 = cgc.call @a1::@forward(%17) : !cgc.object
    %23 = cgc.call @a0::@weights(%20) : !cgc.object
    %24 = cgc.transfer %23 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %25 = cgc.call @a1::@backward(%22) : !cgc.tensor<default>
    %26 = cgc.transfer %25 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %27 = cgc.call @a0::@backward(%26) : !cgc.object
    %28 = cgc.transfer %27 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %29 = cgc.call @a1::@weights(%14) : !cgc.object
    %30 = cgc.transfer %29 from @a1 to [@driver] via shm reason "same node" : !cgc.object
    %31 = cgc.call @a0::@weights(%27) : !cgc.object
    %32 = cgc.transfer %31 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %33 = cgc.call @a1::@weights(%25) : !cgc.object
    %34 = cgc.transfer %33 from @a1 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%10, %13, %19, %21, %24, %28, %30, %32, %34]
  }
}

// ----- after pair-comm
cgc.graph @zero_bubble level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "SplitStage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "SplitStage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 4 from @a0 via shm order 6 : !cgc.object
    %2 = cgc.recv message 5 from @a0 via shm order 9 : !cgc.object
    %3 = cgc.recv message 8 from @a1 via shm order 12 : !cgc.object
    %4 = cgc.recv message 9 from @a0 via shm order 14 : !cgc.object
    %5 = cgc.recv message 10 from @a0 via shm order 17 : !cgc.object
    %6 = cgc.recv message 13 from @a1 via shm order 20 : !cgc.object
    %7 = cgc.recv message 12 from @a0 via shm order 21 : !cgc.object
    %8 = cgc.recv message 15 from @a1 via shm order 24 : !cgc.object
    %9 = cgc.recv message 14 from @a0 via shm order 25 : !cgc.object
    cgc.output [%1, %2, %3, %4, %5, %7, %6, %9, %8]
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
    %5 = cgc.call @a0::@weights(%4) : !cgc.object
    %6 = cgc.recv message 6 from @a1 via nccl order 7 : !cgc.tensor<default>
    cgc.send %5 message 5 to [@driver] via shm order 8
    %7 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %7 message 7 to [@a1] via nccl order 11
    %8 = cgc.call @a0::@backward(%6) : !cgc.object
    cgc.send %8 message 9 to [@driver] via shm order 13
    %9 = cgc.call @a0::@weights(%8) : !cgc.object
    %10 = cgc.recv message 11 from @a1 via nccl order 15 : !cgc.tensor<default>
    cgc.send %9 message 10 to [@driver] via shm order 16
    %11 = cgc.call @a0::@backward(%10) : !cgc.object
    cgc.send %11 message 12 to [@driver] via shm order 19
    %12 = cgc.call @a0::@weights(%11) : !cgc.object
    cgc.send %12 message 14 to [@driver] via shm order 23
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.object
    %2 = cgc.recv message 2 from @a0 via nccl order 3 : !cgc.tensor<default>
    %3 = cgc.call @a1::@backward(%1) : !cgc.tensor<default>
    cgc.send %3 message 3 to [@a0] via nccl order 4
    %4 = cgc.call @a1::@forward(%2) : !cgc.object
    %5 = cgc.call @a1::@backward(%4) : !cgc.tensor<default>
    cgc.send %5 message 6 to [@a0] via nccl order 7
    %6 = cgc.call @a1::@weights(%3) : !cgc.object
    cgc.send %6 message 8 to [@driver] via shm order 10
    %7 = cgc.recv message 7 from @a0 via nccl order 11 : !cgc.tensor<default>
    %8 = cgc.call @a1::@forward(%7) : !cgc.object
    %9 = cgc.call @a1::@backward(%8) : !cgc.tensor<default>
    cgc.send %9 message 11 to [@a0] via nccl order 15
    %10 = cgc.call @a1::@weights(%5) : !cgc.object
    cgc.send %10 message 13 to [@driver] via shm order 18
    %11 = cgc.call @a1::@weights(%9) : !cgc.object
    cgc.send %11 message 15 to [@driver] via shm order 22
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm
// WhyNoGroup: messages between @a0 and @a1: each needs another one that it could go with, or would hold up what waits for a shorter one
cgc.graph @zero_bubble level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "SplitStage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "SplitStage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 4 from @a0 via shm order 6 : !cgc.object
    %2 = cgc.recv message 5 from @a0 via shm order 9 : !cgc.object
    %3 = cgc.recv message 8 from @a1 via shm order 12 : !cgc.object
    %4 = cgc.recv message 9 from @a0 via shm order 14 : !cgc.object
    %5 = cgc.recv message 10 from @a0 via shm order 17 : !cgc.object
    %6 = cgc.recv message 13 from @a1 via shm order 20 : !cgc.object
    %7 = cgc.recv message 12 from @a0 via shm order 21 : !cgc.object
    %8 = cgc.recv message 15 from @a1 via shm order 24 : !cgc.object
    %9 = cgc.recv message 14 from @a0 via shm order 25 : !cgc.object
    cgc.output [%1, %2, %3, %4, %5, %7, %6, %9, %8]
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
    %6 = cgc.call @a0::@weights(%5) : !cgc.object
    cgc.send %6 message 5 to [@driver] via shm order 8
    %7 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %8 = cgc.group {
      cgc.send %7 message 7 to [@a1] via nccl order 11
      %9 = cgc.recv message 6 from @a1 via nccl order 11 : !cgc.tensor<default>
      cgc.yield(%9)
    }
    %10 = cgc.call @a0::@backward(%8) : !cgc.object
    cgc.send %10 message 9 to [@driver] via shm order 13
    %11 = cgc.call @a0::@weights(%10) : !cgc.object
    %12 = cgc.recv message 11 from @a1 via nccl order 15 : !cgc.tensor<default>
    cgc.send %11 message 10 to [@driver] via shm order 16
    %13 = cgc.call @a0::@backward(%12) : !cgc.object
    cgc.send %13 message 12 to [@driver] via shm order 19
    %14 = cgc.call @a0::@weights(%13) : !cgc.object
    cgc.send %14 message 14 to [@driver] via shm order 23
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
    %7 = cgc.call @a1::@weights(%2) : !cgc.object
    cgc.send %7 message 8 to [@driver] via shm order 10
    %8 = cgc.group {
      %9 = cgc.recv message 7 from @a0 via nccl order 11 : !cgc.tensor<default>
      cgc.send %6 message 6 to [@a0] via nccl order 11
      cgc.yield(%9)
    }
    %10 = cgc.call @a1::@forward(%8) : !cgc.object
    %11 = cgc.call @a1::@backward(%10) : !cgc.tensor<default>
    cgc.send %11 message 11 to [@a0] via nccl order 15
    %12 = cgc.call @a1::@weights(%6) : !cgc.object
    cgc.send %12 message 13 to [@driver] via shm order 18
    %13 = cgc.call @a1::@weights(%11) : !cgc.object
    cgc.send %13 message 15 to [@driver] via shm order 22
  }
}

// ----- after allocate-channels
cgc.graph @zero_bubble level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "SplitStage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "SplitStage" on "n0" devices ["gpu:1"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c5 shm from @a1 to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c6 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c7 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c8 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2, %3, %4, %5, %6 = cgc.read @c4 messages [4, 5, 9, 10, 12, 14] order 8 : !cgc.object, !cgc.object, !cgc.object, !cgc.object, !cgc.object, !cgc.object
    %7, %8, %9 = cgc.read @c5 messages [8, 13, 15] order 9 : !cgc.object, !cgc.object, !cgc.object
    cgc.output [%1, %2, %7, %3, %4, %5, %8, %6, %9]
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
    %6 = cgc.call @a0::@weights(%5) : !cgc.object
    %7 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %8 = cgc.group {
      cgc.write @c6(%7) messages [7] order 4
      %9 = cgc.read @c7 messages [6] order 4 : !cgc.tensor<default>
      cgc.yield(%9)
    }
    %10 = cgc.call @a0::@backward(%8) : !cgc.object
    %11 = cgc.call @a0::@weights(%10) : !cgc.object
    %12 = cgc.read @c8 messages [11] order 5 : !cgc.tensor<default>
    %13 = cgc.call @a0::@backward(%12) : !cgc.object
    %14 = cgc.call @a0::@weights(%13) : !cgc.object
    cgc.write @c4(%5, %6, %10, %11, %13, %14) messages [4, 5, 9, 10, 12, 14] order 7
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
    %7 = cgc.call @a1::@weights(%2) : !cgc.object
    %8 = cgc.group {
      %9 = cgc.read @c6 messages [7] order 4 : !cgc.tensor<default>
      cgc.write @c7(%6) messages [6] order 4
      cgc.yield(%9)
    }
    %10 = cgc.call @a1::@forward(%8) : !cgc.object
    %11 = cgc.call @a1::@backward(%10) : !cgc.tensor<default>
    cgc.write @c8(%11) messages [11] order 5
    %12 = cgc.call @a1::@weights(%6) : !cgc.object
    %13 = cgc.call @a1::@weights(%11) : !cgc.object
    cgc.write @c5(%7, %12, %13) messages [8, 13, 15] order 6
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of zero_bubble (v2)  registers=10
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2, r3, r4, r5, r6 = read c4
//   3  r7, r8, r9 = read c5
//   4  output r1, r2, r7, r3, r4, r5, r8, r6, r9
//
// program @a0 of zero_bubble (v2)  registers=13  device=gpu
//    0  r0 = read c0
//    1  r1 = call forward(r0)
//    2  write c1 r1    drop r1
//    3  r2 = call forward(r0)
//    4  group { r3 = read c3; write c2 r2 }    drop r2
//    5  r4 = call backward(r3)    drop r3
//    6  r5 = call weights(r4)
//    7  r6 = call forward(r0)    drop r0
//    8  group { write c6 r6; r7 = read c7 }    drop r6
//    9  r8 = call backward(r7)    drop r7
//   10  r9 = call weights(r8)
//   11  r10 = read c8
//   12  r11 = call backward(r10)    drop r10
//   13  r12 = call weights(r11)
//   14  write c4 r4, r5, r8, r9, r11, r12    drop r4, r5, r8, r9, r11, r12
//
// program @a1 of zero_bubble (v2)  registers=12  device=gpu
//    0  r0 = read c1
//    1  r1 = call forward(r0)    drop r0
//    2  r2 = call backward(r1)    drop r1
//    3  group { write c3 r2; r3 = read c2 }
//    4  r4 = call forward(r3)    drop r3
//    5  r5 = call backward(r4)    drop r4
//    6  r6 = call weights(r2)    drop r2
//    7  group { r7 = read c6; write c7 r5 }
//    8  r8 = call forward(r7)    drop r7
//    9  r9 = call backward(r8)    drop r8
//   10  write c8 r9
//   11  r10 = call weights(r5)    drop r5
//   12  r11 = call weights(r9)    drop r9
//   13  write c5 r6, r10, r11    drop r6, r10, r11

//         µs  @driver/execute  @driver/get  @a0                    @a1
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*
//      104.0                                forward*
//     1104.0                                write @c1*             read @c1*
//     1219.0                                forward                forward*
//     2219.0                                                       backward*
//     3219.0                                read @c3 + write @c2*  write @c3 + read @c2*
//     3334.0                                backward*              forward
//     4334.0                                weights*               backward
//     5334.0                                forward*               weights
//     6334.0                                write @c6 + read @c7*  read @c6 + write @c7*
//     6449.0                                backward               forward*
//     7449.0                                weights                backward*
//     8449.0                                read @c8*              write @c8*
//     8564.0                                backward*              weights
//     9564.0                                weights*               weights
//    10564.0                                write @c4*             write @c5
//    11167.0                   read @c4*
//    11168.0                   read @c5*
//    11169.0                   output*
//    11169.0  end; * is the longest path
