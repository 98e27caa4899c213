// ----- import
cgc.graph @interleaved level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %2 = cgc.call @a1::@forward(%1) : !cgc.tensor<default, via accelerator>
    %3 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via accelerator>
    %4 = cgc.call @a1::@forward(%3) : !cgc.tensor<default, via accelerator>
    %5 = cgc.call @a0::@forward(%2) : !cgc.tensor<default, via accelerator>
    %6 = cgc.call @a1::@forward(%5) : !cgc.object
    %7 = cgc.call @a0::@forward(%4) : !cgc.tensor<default, via accelerator>
    %8 = cgc.call @a1::@backward(%6) : !cgc.tensor<default, via accelerator>
    %9 = cgc.call @a0::@backward(%8) : !cgc.tensor<default, via accelerator>
    %10 = cgc.call @a1::@forward(%7) : !cgc.object
    %11 = cgc.call @a1::@backward(%10) : !cgc.tensor<default, via accelerator>
    %12 = cgc.call @a0::@backward(%11) : !cgc.tensor<default, via accelerator>
    %13 = cgc.call @a1::@backward(%9) : !cgc.tensor<default, via accelerator>
    %14 = cgc.call @a0::@backward(%13) : !cgc.object
    %15 = cgc.call @a1::@backward(%12) : !cgc.tensor<default, via accelerator>
    %16 = cgc.call @a0::@backward(%15) : !cgc.object
    cgc.output [%14, %16]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @interleaved level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %2 = cgc.call @a1::@forward(%1) : !cgc.tensor<default, via nccl>
    %3 = cgc.call @a0::@forward(%0) : !cgc.tensor<default, via nccl>
    %4 = cgc.call @a1::@forward(%3) : !cgc.tensor<default, via nccl>
    %5 = cgc.call @a0::@forward(%2) : !cgc.tensor<default, via nccl>
    %6 = cgc.call @a1::@forward(%5) : !cgc.object
    %7 = cgc.call @a0::@forward(%4) : !cgc.tensor<default, via nccl>
    %8 = cgc.call @a1::@backward(%6) : !cgc.tensor<default, via nccl>
    %9 = cgc.call @a0::@backward(%8) : !cgc.tensor<default, via nccl>
    %10 = cgc.call @a1::@forward(%7) : !cgc.object
    %11 = cgc.call @a1::@backward(%10) : !cgc.tensor<default, via nccl>
    %12 = cgc.call @a0::@backward(%11) : !cgc.tensor<default, via nccl>
    %13 = cgc.call @a1::@backward(%9) : !cgc.tensor<default, via nccl>
    %14 = cgc.call @a0::@backward(%13) : !cgc.object
    %15 = cgc.call @a1::@backward(%12) : !cgc.tensor<default, via nccl>
    %16 = cgc.call @a0::@backward(%15) : !cgc.object
    cgc.output [%14, %16]
  }
}

// ----- after place-devices
cgc.graph @interleaved level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a0] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a0::@forward(%1) : !cgc.tensor<default>
    %3 = cgc.transfer %2 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %4 = cgc.call @a1::@forward(%3) : !cgc.tensor<default>
    %5 = cgc.transfer %4 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %6 = cgc.call @a0::@forward(%1) : !cgc.tensor<default>
    %7 = cgc.transfer %6 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %8 = cgc.call @a1::@forward(%7) : !cgc.tensor<default>
    %9 = cgc.transfer %8 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %10 = cgc.call @a0::@forward(%5) : !cgc.tensor<default>
    %11 = cgc.transfer %10 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %12 = cgc.call @a1::@forward(%11) : !cgc.object
    %13 = cgc.call @a0::@forward(%9) : !cgc.tensor<default>
    %14 = cgc.transfer %13 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %15 = cgc.call @a1::@backward(%12) : !cgc.tensor<default>
    %16 = cgc.transfer %15 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %17 = cgc.call @a0::@backward(%16) : !cgc.tensor<default>
    %18 = cgc.transfer %17 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %19 = cgc.call @a1::@forward(%14) : !cgc.object
    %20 = cgc.call @a1::@backward(%19) : !cgc.tensor<default>
    %21 = cgc.transfer %20 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %22 = cgc.call @a0::@backward(%21) : !cgc.tensor<default>
    %23 = cgc.transfer %22 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %24 = cgc.call @a1::@backward(%18) : !cgc.tensor<default>
    %25 = cgc.transfer %24 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %26 = cgc.call @a0::@backward(%25) : !cgc.object
    %27 = cgc.transfer %26 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %28 = cgc.call @a1::@backward(%23) : !cgc.tensor<default>
    %29 = cgc.transfer %28 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %30 = cgc.call @a0::@backward(%29) : !cgc.object
    %31 = cgc.transfer %30 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%27, %31]
  }
}

// ----- after pair-comm
cgc.graph @interleaved level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 12 from @a0 via shm order 15 : !cgc.object
    %2 = cgc.recv message 14 from @a0 via shm order 17 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 2
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %3 = cgc.recv message 2 from @a1 via nccl order 3 : !cgc.tensor<default>
    cgc.send %2 message 3 to [@a1] via nccl order 4
    %4 = cgc.call @a0::@forward(%3) : !cgc.tensor<default>
    cgc.send %4 message 5 to [@a1] via nccl order 5
    %5 = cgc.recv message 4 from @a1 via nccl order 6 : !cgc.tensor<default>
    %6 = cgc.call @a0::@forward(%5) : !cgc.tensor<default>
    cgc.send %6 message 6 to [@a1] via nccl order 7
    %7 = cgc.recv message 7 from @a1 via nccl order 8 : !cgc.tensor<default>
    %8 = cgc.call @a0::@backward(%7) : !cgc.tensor<default>
    %9 = cgc.recv message 9 from @a1 via nccl order 9 : !cgc.tensor<default>
    cgc.send %8 message 8 to [@a1] via nccl order 10
    %10 = cgc.call @a0::@backward(%9) : !cgc.tensor<default>
    cgc.send %10 message 10 to [@a1] via nccl order 11
    %11 = cgc.recv message 11 from @a1 via nccl order 12 : !cgc.tensor<default>
    %12 = cgc.call @a0::@backward(%11) : !cgc.object
    %13 = cgc.recv message 13 from @a1 via nccl order 13 : !cgc.tensor<default>
    cgc.send %12 message 12 to [@driver] via shm order 14
    %14 = cgc.call @a0::@backward(%13) : !cgc.object
    cgc.send %14 message 14 to [@driver] via shm order 16
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 2 to [@a0] via nccl order 3
    %2 = cgc.recv message 3 from @a0 via nccl order 4 : !cgc.tensor<default>
    %3 = cgc.call @a1::@forward(%2) : !cgc.tensor<default>
    %4 = cgc.recv message 5 from @a0 via nccl order 5 : !cgc.tensor<default>
    cgc.send %3 message 4 to [@a0] via nccl order 6
    %5 = cgc.call @a1::@forward(%4) : !cgc.object
    %6 = cgc.recv message 6 from @a0 via nccl order 7 : !cgc.tensor<default>
    %7 = cgc.call @a1::@backward(%5) : !cgc.tensor<default>
    cgc.send %7 message 7 to [@a0] via nccl order 8
    %8 = cgc.call @a1::@forward(%6) : !cgc.object
    %9 = cgc.call @a1::@backward(%8) : !cgc.tensor<default>
    cgc.send %9 message 9 to [@a0] via nccl order 9
    %10 = cgc.recv message 8 from @a0 via nccl order 10 : !cgc.tensor<default>
    %11 = cgc.call @a1::@backward(%10) : !cgc.tensor<default>
    %12 = cgc.recv message 10 from @a0 via nccl order 11 : !cgc.tensor<default>
    cgc.send %11 message 11 to [@a0] via nccl order 12
    %13 = cgc.call @a1::@backward(%12) : !cgc.tensor<default>
    cgc.send %13 message 13 to [@a0] via nccl order 13
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm
// WhyNoGroup: messages between @a0 and @a1: each needs another one that it could go with, or would hold up what waits for a shorter one
cgc.graph @interleaved level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 12 from @a0 via shm order 15 : !cgc.object
    %2 = cgc.recv message 14 from @a0 via shm order 17 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 2
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %3 = cgc.group {
      %4 = cgc.recv message 2 from @a1 via nccl order 3 : !cgc.tensor<default>
      cgc.send %2 message 3 to [@a1] via nccl order 3
      cgc.yield(%4)
    }
    %5 = cgc.call @a0::@forward(%3) : !cgc.tensor<default>
    %6 = cgc.group {
      cgc.send %5 message 5 to [@a1] via nccl order 5
      %7 = cgc.recv message 4 from @a1 via nccl order 5 : !cgc.tensor<default>
      cgc.yield(%7)
    }
    %8 = cgc.call @a0::@forward(%6) : !cgc.tensor<default>
    %9 = cgc.group {
      %10 = cgc.recv message 7 from @a1 via nccl order 8 : !cgc.tensor<default>
      cgc.send %8 message 6 to [@a1] via nccl order 8
      cgc.yield(%10)
    }
    %11 = cgc.call @a0::@backward(%9) : !cgc.tensor<default>
    %12 = cgc.group {
      %13 = cgc.recv message 9 from @a1 via nccl order 9 : !cgc.tensor<default>
      cgc.send %11 message 8 to [@a1] via nccl order 9
      cgc.yield(%13)
    }
    %14 = cgc.call @a0::@backward(%12) : !cgc.tensor<default>
    %15 = cgc.group {
      cgc.send %14 message 10 to [@a1] via nccl order 11
      %16 = cgc.recv message 11 from @a1 via nccl order 11 : !cgc.tensor<default>
      cgc.yield(%16)
    }
    %17 = cgc.call @a0::@backward(%15) : !cgc.object
    %18 = cgc.recv message 13 from @a1 via nccl order 13 : !cgc.tensor<default>
    cgc.send %17 message 12 to [@driver] via shm order 14
    %19 = cgc.call @a0::@backward(%18) : !cgc.object
    cgc.send %19 message 14 to [@driver] via shm order 16
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.tensor<default>
    %2 = cgc.group {
      cgc.send %1 message 2 to [@a0] via nccl order 3
      %3 = cgc.recv message 3 from @a0 via nccl order 3 : !cgc.tensor<default>
      cgc.yield(%3)
    }
    %4 = cgc.call @a1::@forward(%2) : !cgc.tensor<default>
    %5 = cgc.group {
      %6 = cgc.recv message 5 from @a0 via nccl order 5 : !cgc.tensor<default>
      cgc.send %4 message 4 to [@a0] via nccl order 5
      cgc.yield(%6)
    }
    %7 = cgc.call @a1::@forward(%5) : !cgc.object
    %8 = cgc.call @a1::@backward(%7) : !cgc.tensor<default>
    %9 = cgc.group {
      cgc.send %8 message 7 to [@a0] via nccl order 8
      %10 = cgc.recv message 6 from @a0 via nccl order 8 : !cgc.tensor<default>
      cgc.yield(%10)
    }
    %11 = cgc.call @a1::@forward(%9) : !cgc.object
    %12 = cgc.call @a1::@backward(%11) : !cgc.tensor<default>
    %13 = cgc.group {
      cgc.send %12 message 9 to [@a0] via nccl order 9
      %14 = cgc.recv message 8 from @a0 via nccl order 9 : !cgc.tensor<default>
      cgc.yield(%14)
    }
    %15 = cgc.call @a1::@backward(%13) : !cgc.tensor<default>
    %16 = cgc.group {
      %17 = cgc.recv message 10 from @a0 via nccl order 11 : !cgc.tensor<default>
      cgc.send %15 message 11 to [@a0] via nccl order 11
      cgc.yield(%17)
    }
    %18 = cgc.call @a1::@backward(%16) : !cgc.tensor<default>
    cgc.send %18 message 13 to [@a0] via nccl order 13
  }
}

// ----- after allocate-channels
cgc.graph @interleaved level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c5 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c6 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c7 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c8 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c9 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c10 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c11 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c12 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c13 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2 = cgc.read @c13 messages [12, 14] order 10 : !cgc.object, !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    %3 = cgc.group {
      %4 = cgc.read @c3 messages [2] order 3 : !cgc.tensor<default>
      cgc.write @c2(%2) messages [3] order 3
      cgc.yield(%4)
    }
    %5 = cgc.call @a0::@forward(%3) : !cgc.tensor<default>
    %6 = cgc.group {
      cgc.write @c4(%5) messages [5] order 4
      %7 = cgc.read @c5 messages [4] order 4 : !cgc.tensor<default>
      cgc.yield(%7)
    }
    %8 = cgc.call @a0::@forward(%6) : !cgc.tensor<default>
    %9 = cgc.group {
      %10 = cgc.read @c7 messages [7] order 5 : !cgc.tensor<default>
      cgc.write @c6(%8) messages [6] order 5
      cgc.yield(%10)
    }
    %11 = cgc.call @a0::@backward(%9) : !cgc.tensor<default>
    %12 = cgc.group {
      %13 = cgc.read @c9 messages [9] order 6 : !cgc.tensor<default>
      cgc.write @c8(%11) messages [8] order 6
      cgc.yield(%13)
    }
    %14 = cgc.call @a0::@backward(%12) : !cgc.tensor<default>
    %15 = cgc.group {
      cgc.write @c10(%14) messages [10] order 7
      %16 = cgc.read @c11 messages [11] order 7 : !cgc.tensor<default>
      cgc.yield(%16)
    }
    %17 = cgc.call @a0::@backward(%15) : !cgc.object
    %18 = cgc.read @c12 messages [13] order 8 : !cgc.tensor<default>
    %19 = cgc.call @a0::@backward(%18) : !cgc.object
    cgc.write @c13(%17, %19) messages [12, 14] order 9
  }
  cgc.program @a1 {
    %0 = cgc.read @c1 messages [1] order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@forward(%0) : !cgc.tensor<default>
    %2 = cgc.group {
      cgc.write @c3(%1) messages [2] order 3
      %3 = cgc.read @c2 messages [3] order 3 : !cgc.tensor<default>
      cgc.yield(%3)
    }
    %4 = cgc.call @a1::@forward(%2) : !cgc.tensor<default>
    %5 = cgc.group {
      %6 = cgc.read @c4 messages [5] order 4 : !cgc.tensor<default>
      cgc.write @c5(%4) messages [4] order 4
      cgc.yield(%6)
    }
    %7 = cgc.call @a1::@forward(%5) : !cgc.object
    %8 = cgc.call @a1::@backward(%7) : !cgc.tensor<default>
    %9 = cgc.group {
      cgc.write @c7(%8) messages [7] order 5
      %10 = cgc.read @c6 messages [6] order 5 : !cgc.tensor<default>
      cgc.yield(%10)
    }
    %11 = cgc.call @a1::@forward(%9) : !cgc.object
    %12 = cgc.call @a1::@backward(%11) : !cgc.tensor<default>
    %13 = cgc.group {
      cgc.write @c9(%12) messages [9] order 6
      %14 = cgc.read @c8 messages [8] order 6 : !cgc.tensor<default>
      cgc.yield(%14)
    }
    %15 = cgc.call @a1::@backward(%13) : !cgc.tensor<default>
    %16 = cgc.group {
      %17 = cgc.read @c10 messages [10] order 7 : !cgc.tensor<default>
      cgc.write @c11(%15) messages [11] order 7
      cgc.yield(%17)
    }
    %18 = cgc.call @a1::@backward(%16) : !cgc.tensor<default>
    cgc.write @c12(%18) messages [13] order 8
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of interleaved (v2)  registers=3
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2 = read c13
//   3  output r1, r2
//
// program @a0 of interleaved (v2)  registers=15  device=gpu
//    0  r0 = read c0
//    1  r1 = call forward(r0)
//    2  write c1 r1    drop r1
//    3  r2 = call forward(r0)    drop r0
//    4  group { r3 = read c3; write c2 r2 }    drop r2
//    5  r4 = call forward(r3)    drop r3
//    6  group { write c4 r4; r5 = read c5 }    drop r4
//    7  r6 = call forward(r5)    drop r5
//    8  group { r7 = read c7; write c6 r6 }    drop r6
//    9  r8 = call backward(r7)    drop r7
//   10  group { r9 = read c9; write c8 r8 }    drop r8
//   11  r10 = call backward(r9)    drop r9
//   12  group { write c10 r10; r11 = read c11 }    drop r10
//   13  r12 = call backward(r11)    drop r11
//   14  r13 = read c12
//   15  r14 = call backward(r13)    drop r13
//   16  write c13 r12, r14    drop r12, r14
//
// program @a1 of interleaved (v2)  registers=14  device=gpu
//    0  r0 = read c1
//    1  r1 = call forward(r0)    drop r0
//    2  group { write c3 r1; r2 = read c2 }    drop r1
//    3  r3 = call forward(r2)    drop r2
//    4  group { r4 = read c4; write c5 r3 }    drop r3
//    5  r5 = call forward(r4)    drop r4
//    6  r6 = call backward(r5)    drop r5
//    7  group { write c7 r6; r7 = read c6 }    drop r6
//    8  r8 = call forward(r7)    drop r7
//    9  r9 = call backward(r8)    drop r8
//   10  group { write c9 r9; r10 = read c8 }    drop r9
//   11  r11 = call backward(r10)    drop r10
//   12  group { r12 = read c10; write c11 r11 }    drop r11
//   13  r13 = call backward(r12)    drop r12
//   14  write c12 r13    drop r13

//         µs  @driver/execute  @driver/get  @a0                      @a1
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*
//      104.0                                forward*
//     1104.0                                write @c1*               read @c1*
//     1219.0                                forward                  forward*
//     2219.0                                read @c3 + write @c2*    write @c3 + read @c2*
//     2334.0                                forward*                 forward
//     3334.0                                write @c4 + read @c5*    read @c4 + write @c5*
//     3449.0                                forward                  forward*
//     4449.0                                                         backward*
//     6449.0                                read @c7 + write @c6     write @c7 + read @c6*
//     6564.0                                backward                 forward*
//     7564.0                                                         backward*
//     9564.0                                read @c9 + write @c8*    write @c9 + read @c8*
//     9679.0                                backward*                backward
//    11679.0                                write @c10 + read @c11*  read @c10 + write @c11*
//    11794.0                                backward                 backward*
//    13794.0                                read @c12*               write @c12*
//    13909.0                                backward*
//    15909.0                                write @c13*
//    16112.0                   read @c13*
//    16113.0                   output*
//    16113.0  end; * is the longest path
