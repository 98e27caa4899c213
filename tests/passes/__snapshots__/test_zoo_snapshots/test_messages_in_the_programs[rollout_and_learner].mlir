// ----- import
cgc.graph @rollout_and_learner level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Rl" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Rl" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Rl" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@start(%0) : !cgc.tensor<default, via accelerator>
    %2 = cgc.call @a1::@rollout(%1) : !cgc.tensor<default, via accelerator>
    %3 = cgc.call @a2::@rollout(%1) : !cgc.tensor<default, via accelerator>
    %4 = cgc.call @a0::@learn(%2, %3) : !cgc.tensor<default, via accelerator>
    %5 = cgc.call @a0::@report(%4) : !cgc.object
    %6 = cgc.call @a1::@rollout(%4) : !cgc.tensor<default, via accelerator>
    %7 = cgc.call @a2::@rollout(%4) : !cgc.tensor<default, via accelerator>
    %8 = cgc.call @a0::@learn(%6, %7) : !cgc.tensor<default, via accelerator>
    %9 = cgc.call @a0::@report(%8) : !cgc.object
    %10 = cgc.call @a1::@rollout(%8) : !cgc.object
    cgc.output [%5, %9, %10]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @rollout_and_learner level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Rl" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Rl" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Rl" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@start(%0) : !cgc.tensor<default, via nccl>
    %2 = cgc.call @a1::@rollout(%1) : !cgc.tensor<default, via nccl>
    %3 = cgc.call @a2::@rollout(%1) : !cgc.tensor<default, via nccl>
    %4 = cgc.call @a0::@learn(%2, %3) : !cgc.tensor<default, via nccl>
    %5 = cgc.call @a0::@report(%4) : !cgc.object
    %6 = cgc.call @a1::@rollout(%4) : !cgc.tensor<default, via nccl>
    %7 = cgc.call @a2::@rollout(%4) : !cgc.tensor<default, via nccl>
    %8 = cgc.call @a0::@learn(%6, %7) : !cgc.tensor<default, via nccl>
    %9 = cgc.call @a0::@report(%8) : !cgc.object
    %10 = cgc.call @a1::@rollout(%8) : !cgc.object
    cgc.output [%5, %9, %10]
  }
}

// ----- after place-devices
cgc.graph @rollout_and_learner level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Rl" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Rl" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Rl" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a0] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a0::@start(%1) : !cgc.tensor<default>
    %3 = cgc.transfer %2 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %4 = cgc.transfer %2 from @a0 to [@a2] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %5 = cgc.call @a1::@rollout(%3) : !cgc.tensor<default>
    %6 = cgc.transfer %5 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %7 = cgc.call @a2::@rollout(%4) : !cgc.tensor<default>
    %8 = cgc.transfer %7 from @a2 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %9 = cgc.call @a0::@learn(%6, %8) : !cgc.tensor<default>
    %10 = cgc.transfer %9 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %11 = cgc.transfer %9 from @a0 to [@a2] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %12 = cgc.call @a0::@report(%9) : !cgc.object
    %13 = cgc.transfer %12 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %14 = cgc.call @a1::@rollout(%10) : !cgc.tensor<default>
    %15 = cgc.transfer %14 from @a1 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %16 = cgc.call @a2::@rollout(%11) : !cgc.tensor<default>
    %17 = cgc.transfer %16 from @a2 to [@a0] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %18 = cgc.call @a0::@learn(%15, %17) : !cgc.tensor<default>
    %19 = cgc.transfer %18 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %20 = cgc.call @a0::@report(%18) : !cgc.object
    %21 = cgc.transfer %20 from @a0 to [@driver] via shm reason "same node" : !cgc.object
    %22 = cgc.call @a1::@rollout(%19) : !cgc.object
    %23 = cgc.transfer %22 from @a1 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%13, %21, %23]
  }
}

// ----- after pair-comm
cgc.graph @rollout_and_learner level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Rl" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Rl" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Rl" on "n0" devices ["gpu:2"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 7 from @a0 via shm order 9 : !cgc.object
    %2 = cgc.recv message 11 from @a0 via shm order 14 : !cgc.object
    %3 = cgc.recv message 12 from @a1 via shm order 16 : !cgc.object
    cgc.output [%1, %2, %3]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@start(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 2
    cgc.send %1 message 2 to [@a2] via nccl order 3
    %2 = cgc.recv message 3 from @a1 via nccl order 4 : !cgc.tensor<default>
    %3 = cgc.recv message 4 from @a2 via nccl order 5 : !cgc.tensor<default>
    %4 = cgc.call @a0::@learn(%2, %3) : !cgc.tensor<default>
    cgc.send %4 message 5 to [@a1] via nccl order 6
    cgc.send %4 message 6 to [@a2] via nccl order 7
    %5 = cgc.call @a0::@report(%4) : !cgc.object
    cgc.send %5 message 7 to [@driver] via shm order 8
    %6 = cgc.recv message 8 from @a1 via nccl order 10 : !cgc.tensor<default>
    %7 = cgc.recv message 9 from @a2 via nccl order 11 : !cgc.tensor<default>
    %8 = cgc.call @a0::@learn(%6, %7) : !cgc.tensor<default>
    cgc.send %8 message 10 to [@a1] via nccl order 12
    %9 = cgc.call @a0::@report(%8) : !cgc.object
    cgc.send %9 message 11 to [@driver] via shm order 13
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@rollout(%0) : !cgc.tensor<default>
    cgc.send %1 message 3 to [@a0] via nccl order 4
    %2 = cgc.recv message 5 from @a0 via nccl order 6 : !cgc.tensor<default>
    %3 = cgc.call @a1::@rollout(%2) : !cgc.tensor<default>
    cgc.send %3 message 8 to [@a0] via nccl order 10
    %4 = cgc.recv message 10 from @a0 via nccl order 12 : !cgc.tensor<default>
    %5 = cgc.call @a1::@rollout(%4) : !cgc.object
    cgc.send %5 message 12 to [@driver] via shm order 15
  }
  cgc.program @a2 {
    %0 = cgc.recv message 2 from @a0 via nccl order 3 : !cgc.tensor<default>
    %1 = cgc.call @a2::@rollout(%0) : !cgc.tensor<default>
    cgc.send %1 message 4 to [@a0] via nccl order 5
    %2 = cgc.recv message 6 from @a0 via nccl order 7 : !cgc.tensor<default>
    %3 = cgc.call @a2::@rollout(%2) : !cgc.tensor<default>
    cgc.send %3 message 9 to [@a0] via nccl order 11
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged
// WhyNoGroup: messages between @a0 and @a1: each needs another one that it could go with, or would hold up what waits for a shorter one
// WhyNoGroup: messages between @a0 and @a2: each needs another one that it could go with, or would hold up what waits for a shorter one

// ----- after allocate-channels
cgc.graph @rollout_and_learner level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Rl" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Rl" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Rl" on "n0" devices ["gpu:2"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a2] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a2 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c5 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c6 nccl from @a0 to [@a2] slots 10 slot_bytes 4096
  cgc.channel @c7 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c8 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c9 nccl from @a2 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c10 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c11 shm from @a1 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2 = cgc.read @c7 messages [7, 11] order 13 : !cgc.object, !cgc.object
    %3 = cgc.read @c11 messages [12] order 14 : !cgc.object
    cgc.output [%1, %2, %3]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@start(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
    cgc.write @c2(%1) messages [2] order 3
    %2 = cgc.read @c3 messages [3] order 4 : !cgc.tensor<default>
    %3 = cgc.read @c4 messages [4] order 5 : !cgc.tensor<default>
    %4 = cgc.call @a0::@learn(%2, %3) : !cgc.tensor<default>
    cgc.write @c5(%4) messages [5] order 6
    cgc.write @c6(%4) messages [6] order 7
    %5 = cgc.call @a0::@report(%4) : !cgc.object
    %6 = cgc.read @c8 messages [8] order 8 : !cgc.tensor<default>
    %7 = cgc.read @c9 messages [9] order 9 : !cgc.tensor<default>
    %8 = cgc.call @a0::@learn(%6, %7) : !cgc.tensor<default>
    cgc.write @c10(%8) messages [10] order 10
    %9 = cgc.call @a0::@report(%8) : !cgc.object
    cgc.write @c7(%5, %9) messages [7, 11] order 11
  }
  cgc.program @a1 {
    %0 = cgc.read @c1 messages [1] order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@rollout(%0) : !cgc.tensor<default>
    cgc.write @c3(%1) messages [3] order 4
    %2 = cgc.read @c5 messages [5] order 6 : !cgc.tensor<default>
    %3 = cgc.call @a1::@rollout(%2) : !cgc.tensor<default>
    cgc.write @c8(%3) messages [8] order 8
    %4 = cgc.read @c10 messages [10] order 10 : !cgc.tensor<default>
    %5 = cgc.call @a1::@rollout(%4) : !cgc.object
    cgc.write @c11(%5) messages [12] order 12
  }
  cgc.program @a2 {
    %0 = cgc.read @c2 messages [2] order 3 : !cgc.tensor<default>
    %1 = cgc.call @a2::@rollout(%0) : !cgc.tensor<default>
    cgc.write @c4(%1) messages [4] order 5
    %2 = cgc.read @c6 messages [6] order 7 : !cgc.tensor<default>
    %3 = cgc.call @a2::@rollout(%2) : !cgc.tensor<default>
    cgc.write @c9(%3) messages [9] order 9
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of rollout_and_learner (v2)  registers=4
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2 = read c7
//   3  r3 = read c11
//   4  output r1, r2, r3
//
// program @a0 of rollout_and_learner (v2)  registers=10  device=gpu
//    0  r0 = read c0
//    1  r1 = call start(r0)    drop r0
//    2  write c1 r1
//    3  write c2 r1    drop r1
//    4  r2 = read c3
//    5  r3 = read c4
//    6  r4 = call learn(r2, r3)    drop r2, r3
//    7  write c5 r4
//    8  write c6 r4
//    9  r5 = call report(r4)    drop r4
//   10  r6 = read c8
//   11  r7 = read c9
//   12  r8 = call learn(r6, r7)    drop r6, r7
//   13  write c10 r8
//   14  r9 = call report(r8)    drop r8
//   15  write c7 r5, r9    drop r5, r9
//
// program @a1 of rollout_and_learner (v2)  registers=6  device=gpu
//   0  r0 = read c1
//   1  r1 = call rollout(r0)    drop r0
//   2  write c3 r1    drop r1
//   3  r2 = read c5
//   4  r3 = call rollout(r2)    drop r2
//   5  write c8 r3    drop r3
//   6  r4 = read c10
//   7  r5 = call rollout(r4)    drop r4
//   8  write c11 r5    drop r5
//
// program @a2 of rollout_and_learner (v2)  registers=4  device=gpu
//   0  r0 = read c2
//   1  r1 = call rollout(r0)    drop r0
//   2  write c4 r1    drop r1
//   3  r2 = read c6
//   4  r3 = call rollout(r2)    drop r2
//   5  write c9 r3    drop r3

//         µs  @driver/execute  @driver/get  @a0          @a1          @a2
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*
//      104.0                                start*
//      204.0                                write @c1*   read @c1
//      319.0                                write @c2*   rollout      read @c2*
//      434.0                                                          rollout*
//     4319.0                                read @c3     write @c3
//     4434.0                                read @c4*                 write @c4*
//     4549.0                                learn*
//     7549.0                                write @c5*   read @c5
//     7664.0                                write @c6*   rollout      read @c6*
//     7779.0                                report                    rollout*
//    11664.0                                read @c8     write @c8
//    11779.0                                read @c9*                 write @c9*
//    11894.0                                learn*
//    14894.0                                write @c10*  read @c10*
//    15009.0                                report       rollout*
//    15109.0                                write @c7
//    15312.0                   read @c7
//    19009.0                                             write @c11*
//    19112.0                   read @c11*
//    19113.0                   output*
//    19113.0  end; * is the longest path
