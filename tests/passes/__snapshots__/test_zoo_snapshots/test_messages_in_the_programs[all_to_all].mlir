// ----- import
cgc.graph @all_to_all level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Expert" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Expert" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@tokens(%0) : !cgc.object
    %2 = cgc.call @a1::@tokens(%0) : !cgc.object
    %3, %4 = cgc.call @a0::@dispatch(%1) : !cgc.tensor<default, via accelerator>, !cgc.tensor<default, via accelerator>
    %5, %6 = cgc.call @a1::@dispatch(%2) : !cgc.tensor<default, via accelerator>, !cgc.tensor<default, via accelerator>
    %7, %8 = cgc.call @a0::@expert(%3, %5) : !cgc.tensor<default, via accelerator>, !cgc.tensor<default, via accelerator>
    %9, %10 = cgc.call @a1::@expert(%4, %6) : !cgc.tensor<default, via accelerator>, !cgc.tensor<default, via accelerator>
    %11 = cgc.call @a0::@combine(%7, %9) : !cgc.object
    %12 = cgc.call @a1::@combine(%8, %10) : !cgc.object
    cgc.output [%11, %12]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @all_to_all level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Expert" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Expert" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@tokens(%0) : !cgc.object
    %2 = cgc.call @a1::@tokens(%0) : !cgc.object
    %3, %4 = cgc.call @a0::@dispatch(%1) : !cgc.tensor<default, via nccl>, !cgc.tensor<default, via nccl>
    %5, %6 = cgc.call @a1::@dispatch(%2) : !cgc.tensor<default, via nccl>, !cgc.tensor<default, via nccl>
    %7, %8 = cgc.call @a0::@expert(%3, %5) : !cgc.tensor<default, via nccl>, !cgc.tensor<default, via nccl>
    %9, %10 = cgc.call @a1::@expert(%4, %6) : !cgc.tensor<default, via nccl>, !cgc.tensor<default, via nccl>
    %11 = cgc.call @a0::@combine(%7, %9) : !cgc.object
    %12 = cgc.call @a1::@combine(%8, %10) : !cgc.object
    cgc.output [%11, %12]
  }
}

// ----- after place-devices
cgc.graph @all_to_all level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Expert" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Expert" on "n0" devices ["gpu:1"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1, %2 = cgc.transfer %0 from @driver to [@a0, @a1] via shm reason "same node" : !cgc.object, !cgc.object
    %3 = cgc.call @a0::@tokens(%1) : !cgc.object
    %4 = cgc.call @a1::@tokens(%2) : !cgc.object
    %5, %6 = cgc.call @a0::@dispatch(%3) : !cgc.tensor<default>, !cgc.tensor<default>
    %7 = cgc.transfer %6 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %8, %9 = cgc.call @a1::@dispatch(%4) : !cgc.tensor<default>, !cgc.tensor<default>
    %10 = cgc.transfer %8 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %11, %12 = cgc.call @a0::@expert(%5, %10) : !cgc.tensor<default>, !cgc.tensor<default>
    %13 = cgc.transfer %12 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %14, %15 = cgc.call @a1::@expert(%7, %9) : !cgc.tensor<default>, !cgc.tensor<default>
    %16 = cgc.transfer %14 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %17 = cgc.call @a0::@combine(%11, %16) : !cgc.object
    %18 = cgc.transfer %17 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %19 = cgc.call @a1::@combine(%13, %15) : !cgc.object
    %20 = cgc.transfer %19 from @a1 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%18, %20]
  }
}

// ----- after pair-comm
cgc.graph @all_to_all level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Expert" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Expert" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0, @a1] via shm order 0
    %1 = cgc.recv message 5 from @a0 via shm order 9 : !cgc.object
    %2 = cgc.recv message 6 from @a1 via shm order 10 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@tokens(%0) : !cgc.object
    %2, %3 = cgc.call @a0::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.send %3 message 1 to [@a1] via nccl order 3
    %4 = cgc.recv message 2 from @a1 via nccl order 4 : !cgc.tensor<default>
    %5, %6 = cgc.call @a0::@expert(%2, %4) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.send %6 message 3 to [@a1] via nccl order 5
    %7 = cgc.recv message 4 from @a1 via nccl order 6 : !cgc.tensor<default>
    %8 = cgc.call @a0::@combine(%5, %7) : !cgc.object
    cgc.send %8 message 5 to [@driver] via shm order 7
  }
  cgc.program @a1 {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @a1::@tokens(%0) : !cgc.object
    %2, %3 = cgc.call @a1::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    %4 = cgc.recv message 1 from @a0 via nccl order 3 : !cgc.tensor<default>
    cgc.send %2 message 2 to [@a0] via nccl order 4
    %5, %6 = cgc.call @a1::@expert(%4, %3) : !cgc.tensor<default>, !cgc.tensor<default>
    %7 = cgc.recv message 3 from @a0 via nccl order 5 : !cgc.tensor<default>
    cgc.send %5 message 4 to [@a0] via nccl order 6
    %8 = cgc.call @a1::@combine(%7, %6) : !cgc.object
    cgc.send %8 message 6 to [@driver] via shm order 8
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm
cgc.graph @all_to_all level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Expert" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Expert" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0, @a1] via shm order 0
    %1 = cgc.recv message 5 from @a0 via shm order 9 : !cgc.object
    %2 = cgc.recv message 6 from @a1 via shm order 10 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@tokens(%0) : !cgc.object
    %2, %3 = cgc.call @a0::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    %4 = cgc.group {
      cgc.send %3 message 1 to [@a1] via nccl order 3
      %5 = cgc.recv message 2 from @a1 via nccl order 3 : !cgc.tensor<default>
      cgc.yield(%5)
    }
    %6, %7 = cgc.call @a0::@expert(%2, %4) : !cgc.tensor<default>, !cgc.tensor<default>
    %8 = cgc.group {
      cgc.send %7 message 3 to [@a1] via nccl order 5
      %9 = cgc.recv message 4 from @a1 via nccl order 5 : !cgc.tensor<default>
      cgc.yield(%9)
    }
    %10 = cgc.call @a0::@combine(%6, %8) : !cgc.object
    cgc.send %10 message 5 to [@driver] via shm order 7
  }
  cgc.program @a1 {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @a1::@tokens(%0) : !cgc.object
    %2, %3 = cgc.call @a1::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    %4 = cgc.group {
      %5 = cgc.recv message 1 from @a0 via nccl order 3 : !cgc.tensor<default>
      cgc.send %2 message 2 to [@a0] via nccl order 3
      cgc.yield(%5)
    }
    %6, %7 = cgc.call @a1::@expert(%4, %3) : !cgc.tensor<default>, !cgc.tensor<default>
    %8 = cgc.group {
      %9 = cgc.recv message 3 from @a0 via nccl order 5 : !cgc.tensor<default>
      cgc.send %6 message 4 to [@a0] via nccl order 5
      cgc.yield(%9)
    }
    %10 = cgc.call @a1::@combine(%8, %7) : !cgc.object
    cgc.send %10 message 6 to [@driver] via shm order 8
  }
}

// ----- after allocate-channels
cgc.graph @all_to_all level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Expert" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Expert" on "n0" devices ["gpu:1"]
  cgc.channel @c0 shm from @driver to [@a0, @a1] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c5 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c6 shm from @a1 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c5 messages [5] order 7 : !cgc.object
    %2 = cgc.read @c6 messages [6] order 8 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@tokens(%0) : !cgc.object
    %2, %3 = cgc.call @a0::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    %4 = cgc.group {
      cgc.write @c1(%3) messages [1] order 3
      %5 = cgc.read @c2 messages [2] order 3 : !cgc.tensor<default>
      cgc.yield(%5)
    }
    %6, %7 = cgc.call @a0::@expert(%2, %4) : !cgc.tensor<default>, !cgc.tensor<default>
    %8 = cgc.group {
      cgc.write @c3(%7) messages [3] order 4
      %9 = cgc.read @c4 messages [4] order 4 : !cgc.tensor<default>
      cgc.yield(%9)
    }
    %10 = cgc.call @a0::@combine(%6, %8) : !cgc.object
    cgc.write @c5(%10) messages [5] order 5
  }
  cgc.program @a1 {
    %0 = cgc.read @c0 messages [0] order 2 : !cgc.object
    %1 = cgc.call @a1::@tokens(%0) : !cgc.object
    %2, %3 = cgc.call @a1::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    %4 = cgc.group {
      %5 = cgc.read @c1 messages [1] order 3 : !cgc.tensor<default>
      cgc.write @c2(%2) messages [2] order 3
      cgc.yield(%5)
    }
    %6, %7 = cgc.call @a1::@expert(%4, %3) : !cgc.tensor<default>, !cgc.tensor<default>
    %8 = cgc.group {
      %9 = cgc.read @c3 messages [3] order 4 : !cgc.tensor<default>
      cgc.write @c4(%6) messages [4] order 4
      cgc.yield(%9)
    }
    %10 = cgc.call @a1::@combine(%8, %7) : !cgc.object
    cgc.write @c6(%10) messages [6] order 6
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of all_to_all (v2)  registers=3
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c5
//   3  r2 = read c6
//   4  output r1, r2
//
// program @a0 of all_to_all (v2)  registers=9  device=gpu
//   0  r0 = read c0
//   1  r1 = call tokens(r0)    drop r0
//   2  r2, r3 = call dispatch(r1)    drop r1
//   3  group { write c1 r3; r4 = read c2 }    drop r3
//   4  r5, r6 = call expert(r2, r4)    drop r2, r4
//   5  group { write c3 r6; r7 = read c4 }    drop r6
//   6  r8 = call combine(r5, r7)    drop r5, r7
//   7  write c5 r8    drop r8
//
// program @a1 of all_to_all (v2)  registers=9  device=gpu
//   0  r0 = read c0
//   1  r1 = call tokens(r0)    drop r0
//   2  r2, r3 = call dispatch(r1)    drop r1
//   3  group { r4 = read c1; write c2 r2 }    drop r2
//   4  r5, r6 = call expert(r4, r3)    drop r3, r4
//   5  group { r7 = read c3; write c4 r5 }    drop r5
//   6  r8 = call combine(r7, r6)    drop r6, r7
//   7  write c6 r8    drop r8

//         µs  @driver/execute  @driver/get  @a0                    @a1
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*              read @c0
//      104.0                                tokens*                tokens
//      604.0                                dispatch*              dispatch
//      904.0                                write @c1 + read @c2*  read @c1 + write @c2*
//     1019.0                                expert                 expert*
//     4019.0                                write @c3 + read @c4*  read @c3 + write @c4*
//     4134.0                                combine*               combine
//     4434.0                                write @c5*             write @c6
//     4537.0                   read @c5*
//     4538.0                   read @c6*
//     4539.0                   output*
//     4539.0  end; * is the longest path
