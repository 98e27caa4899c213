// ----- import
cgc.graph @tensor_parallel level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Shard" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Shard" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Shard" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@embed(%0) : !cgc.tensor<default, via accelerator>
    %2 = cgc.call @a1::@part(%1) : !cgc.tensor<default, via accelerator>
    %3 = cgc.call @a2::@part(%1) : !cgc.tensor<default, via accelerator>
    %4 = cgc.call @a0::@combine(%2, %3) : !cgc.tensor<default, via accelerator>
    %5 = cgc.call @a1::@part(%4) : !cgc.tensor<default, via accelerator>
    %6 = cgc.call @a2::@part(%4) : !cgc.tensor<default, via accelerator>
    %7 = cgc.call @a0::@combine(%5, %6) : !cgc.object
    cgc.output %7
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @tensor_parallel level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Shard" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Shard" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Shard" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@embed(%0) : !cgc.tensor<default, via nccl>
    %2 = cgc.call @a1::@part(%1) : !cgc.tensor<default, via nccl>
    %3 = cgc.call @a2::@part(%1) : !cgc.tensor<default, via nccl>
    %4 = cgc.call @a0::@combine(%2, %3) : !cgc.tensor<default, via nccl>
    %5 = cgc.call @a1::@part(%4) : !cgc.tensor<default, via nccl>
    %6 = cgc.call @a2::@part(%4) : !cgc.tensor<default, via nccl>
    %7 = cgc.call @a0::@combine(%5, %6) : !cgc.object
    cgc.output %7
  }
}

// ----- after place-devices
cgc.graph @tensor_parallel level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Shard" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Shard" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Shard" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a0] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a0::@embed(%1) : !cgc.tensor<default>
    %3 = cgc.transfer %2 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %4 = cgc.transfer %2 from @a0 to [@a2] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %5 = cgc.call @a1::@part(%3) : !cgc.tensor<default>
    %6 = cgc.transfer %5 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %7 = cgc.call @a2::@part(%4) : !cgc.tensor<default>
    %8 = cgc.transfer %7 from @a2 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %9 = cgc.call @a0::@combine(%6, %8) : !cgc.tensor<default>
    %10 = cgc.transfer %9 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %11 = cgc.transfer %9 from @a0 to [@a2] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %12 = cgc.call @a1::@part(%10) : !cgc.tensor<default>
    %13 = cgc.transfer %12 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %14 = cgc.call @a2::@part(%11) : !cgc.tensor<default>
    %15 = cgc.transfer %14 from @a2 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %16 = cgc.call @a0::@combine(%13, %15) : !cgc.object
    %17 = cgc.transfer %16 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output %17
  }
}

// ----- after pair-comm
cgc.graph @tensor_parallel level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Shard" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Shard" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Shard" on "n0" devices ["gpu:2"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 9 from @a0 via shm order 11 : !cgc.object
    cgc.output %1
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@embed(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 2
    cgc.send %1 message 2 to [@a2] via nccl order 3
    %2 = cgc.recv message 3 from @a1 via nccl order 4 : !cgc.tensor<default>
    %3 = cgc.recv message 4 from @a2 via nccl order 5 : !cgc.tensor<default>
    %4 = cgc.call @a0::@combine(%2, %3) : !cgc.tensor<default>
    cgc.send %4 message 5 to [@a1] via nccl order 6
    cgc.send %4 message 6 to [@a2] via nccl order 7
    %5 = cgc.recv message 7 from @a1 via nccl order 8 : !cgc.tensor<default>
    %6 = cgc.recv message 8 from @a2 via nccl order 9 : !cgc.tensor<default>
    %7 = cgc.call @a0::@combine(%5, %6) : !cgc.object
    cgc.send %7 message 9 to [@driver] via shm order 10
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@part(%0) : !cgc.tensor<default>
    cgc.send %1 message 3 to [@a0] via nccl order 4
    %2 = cgc.recv message 5 from @a0 via nccl order 6 : !cgc.tensor<default>
    %3 = cgc.call @a1::@part(%2) : !cgc.tensor<default>
    cgc.send %3 message 7 to [@a0] via nccl order 8
  }
  cgc.program @a2 {
    %0 = cgc.recv message 2 from @a0 via nccl order 3 : !cgc.tensor<default>
    %1 = cgc.call @a2::@part(%0) : !cgc.tensor<default>
    cgc.send %1 message 4 to [@a0] via nccl order 5
    %2 = cgc.recv message 6 from @a0 via nccl order 7 : !cgc.tensor<default>
    %3 = cgc.call @a2::@part(%2) : !cgc.tensor<default>
    cgc.send %3 message 8 to [@a0] via nccl order 9
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged
// WhyNoGroup: messages between @a0 and @a1: each needs another one that it could go with, or would hold up what waits for a shorter one
// WhyNoGroup: messages between @a0 and @a2: each needs another one that it could go with, or would hold up what waits for a shorter one

// ----- after allocate-channels
cgc.graph @tensor_parallel level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Shard" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Shard" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Shard" on "n0" devices ["gpu:2"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a2] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a2 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c5 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c6 nccl from @a0 to [@a2] slots 10 slot_bytes 4096
  cgc.channel @c7 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c8 nccl from @a2 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c9 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c9 messages [9] order 11 : !cgc.object
    cgc.output %1
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@embed(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
    cgc.write @c2(%1) messages [2] order 3
    %2 = cgc.read @c3 messages [3] order 4 : !cgc.tensor<default>
    %3 = cgc.read @c4 messages [4] order 5 : !cgc.tensor<default>
    %4 = cgc.call @a0::@combine(%2, %3) : !cgc.tensor<default>
    cgc.write @c5(%4) messages [5] order 6
    cgc.write @c6(%4) messages [6] order 7
    %5 = cgc.read @c7 messages [7] order 8 : !cgc.tensor<default>
    %6 = cgc.read @c8 messages [8] order 9 : !cgc.tensor<default>
    %7 = cgc.call @a0::@combine(%5, %6) : !cgc.object
    cgc.write @c9(%7) messages [9] order 10
  }
  cgc.program @a1 {
    %0 = cgc.read @c1 messages [1] order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@part(%0) : !cgc.tensor<default>
    cgc.write @c3(%1) messages [3] order 4
    %2 = cgc.read @c5 messages [5] order 6 : !cgc.tensor<default>
    %3 = cgc.call @a1::@part(%2) : !cgc.tensor<default>
    cgc.write @c7(%3) messages [7] order 8
  }
  cgc.program @a2 {
    %0 = cgc.read @c2 messages [2] order 3 : !cgc.tensor<default>
    %1 = cgc.call @a2::@part(%0) : !cgc.tensor<default>
    cgc.write @c4(%1) messages [4] order 5
    %2 = cgc.read @c6 messages [6] order 7 : !cgc.tensor<default>
    %3 = cgc.call @a2::@part(%2) : !cgc.tensor<default>
    cgc.write @c8(%3) messages [8] order 9
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of tensor_parallel (v2)  registers=2
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c9
//   3  output r1
//
// program @a0 of tensor_parallel (v2)  registers=8  device=gpu
//    0  r0 = read c0
//    1  r1 = call embed(r0)    drop r0
//    2  write c1 r1
//    3  write c2 r1    drop r1
//    4  r2 = read c3
//    5  r3 = read c4
//    6  r4 = call combine(r2, r3)    drop r2, r3
//    7  write c5 r4
//    8  write c6 r4    drop r4
//    9  r5 = read c7
//   10  r6 = read c8
//   11  r7 = call combine(r5, r6)    drop r5, r6
//   12  write c9 r7    drop r7
//
// program @a1 of tensor_parallel (v2)  registers=4  device=gpu
//   0  r0 = read c1
//   1  r1 = call part(r0)    drop r0
//   2  write c3 r1    drop r1
//   3  r2 = read c5
//   4  r3 = call part(r2)    drop r2
//   5  write c7 r3    drop r3
//
// program @a2 of tensor_parallel (v2)  registers=4  device=gpu
//   0  r0 = read c2
//   1  r1 = call part(r0)    drop r0
//   2  write c4 r1    drop r1
//   3  r2 = read c6
//   4  r3 = call part(r2)    drop r2
//   5  write c8 r3    drop r3

//         µs  @driver/execute  @driver/get  @a0         @a1        @a2
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*
//      104.0                                embed*
//      304.0                                write @c1*  read @c1
//      419.0                                write @c2*  part       read @c2*
//      534.0                                                       part*
//     2419.0                                read @c3    write @c3
//     2534.0                                read @c4*              write @c4*
//     2649.0                                combine*
//     3049.0                                write @c5*  read @c5
//     3164.0                                write @c6*  part       read @c6*
//     3279.0                                                       part*
//     5164.0                                read @c7    write @c7
//     5279.0                                read @c8*              write @c8*
//     5394.0                                combine*
//     5794.0                                write @c9*
//     5897.0                   read @c9*
//     5898.0                   output*
//     5898.0  end; * is the longest path
