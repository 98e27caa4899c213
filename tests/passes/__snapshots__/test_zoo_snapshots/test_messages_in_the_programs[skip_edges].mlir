// ----- import
cgc.graph @skip_edges level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Level" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Level" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Level" on "n0" devices ["gpu:2"]
  cgc.actor @a3 actor class "Level" on "n0" devices ["gpu:3"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@down(%0) : !cgc.tensor<default, via accelerator>
    %2 = cgc.call @a1::@down(%1) : !cgc.tensor<default, via accelerator>
    %3 = cgc.call @a2::@up(%2, %2) : !cgc.tensor<default, via accelerator>
    %4 = cgc.call @a3::@up(%3, %1) : !cgc.object
    cgc.output %4
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @skip_edges level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Level" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Level" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Level" on "n0" devices ["gpu:2"]
  cgc.actor @a3 actor class "Level" on "n0" devices ["gpu:3"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@down(%0) : !cgc.tensor<default, via nccl>
    %2 = cgc.call @a1::@down(%1) : !cgc.tensor<default, via nccl>
    %3 = cgc.call @a2::@up(%2, %2) : !cgc.tensor<default, via nccl>
    %4 = cgc.call @a3::@up(%3, %1) : !cgc.object
    cgc.output %4
  }
}

// ----- after place-devices
cgc.graph @skip_edges level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Level" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Level" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Level" on "n0" devices ["gpu:2"]
  cgc.actor @a3 actor class "Level" on "n0" devices ["gpu:3"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a0] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a0::@down(%1) : !cgc.tensor<default>
    %3 = cgc.transfer %2 from @a0 to [@a1] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %4 = cgc.transfer %2 from @a0 to [@a3] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %5 = cgc.call @a1::@down(%3) : !cgc.tensor<default>
    %6 = cgc.transfer %5 from @a1 to [@a2] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %7 = cgc.call @a2::@up(%6, %6) : !cgc.tensor<default>
    %8 = cgc.transfer %7 from @a2 to [@a3] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %9 = cgc.call @a3::@up(%8, %4) : !cgc.object
    %10 = cgc.transfer %9 from @a3 to [@driver] via shm reason "same node" : !cgc.object
    cgc.output %10
  }
}

// ----- after pair-comm
cgc.graph @skip_edges level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Level" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Level" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Level" on "n0" devices ["gpu:2"]
  cgc.actor @a3 actor class "Level" on "n0" devices ["gpu:3"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 0
    %1 = cgc.recv message 5 from @a3 via shm order 7 : !cgc.object
    cgc.output %1
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a0::@down(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 2
    cgc.send %1 message 2 to [@a3] via nccl order 3
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@down(%0) : !cgc.tensor<default>
    cgc.send %1 message 3 to [@a2] via nccl order 4
  }
  cgc.program @a2 {
    %0 = cgc.recv message 3 from @a1 via nccl order 4 : !cgc.tensor<default>
    %1 = cgc.call @a2::@up(%0, %0) : !cgc.tensor<default>
    cgc.send %1 message 4 to [@a3] via nccl order 5
  }
  cgc.program @a3 {
    %0 = cgc.recv message 2 from @a0 via nccl order 3 : !cgc.tensor<default>
    %1 = cgc.recv message 4 from @a2 via nccl order 5 : !cgc.tensor<default>
    %2 = cgc.call @a3::@up(%1, %0) : !cgc.object
    cgc.send %2 message 5 to [@driver] via shm order 6
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @skip_edges level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Level" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Level" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Level" on "n0" devices ["gpu:2"]
  cgc.actor @a3 actor class "Level" on "n0" devices ["gpu:3"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a3] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a2] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a2 to [@a3] slots 10 slot_bytes 4096
  cgc.channel @c5 shm from @a3 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c5 messages [5] order 7 : !cgc.object
    cgc.output %1
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@down(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
    cgc.write @c2(%1) messages [2] order 3
  }
  cgc.program @a1 {
    %0 = cgc.read @c1 messages [1] order 2 : !cgc.tensor<default>
    %1 = cgc.call @a1::@down(%0) : !cgc.tensor<default>
    cgc.write @c3(%1) messages [3] order 4
  }
  cgc.program @a2 {
    %0 = cgc.read @c3 messages [3] order 4 : !cgc.tensor<default>
    %1 = cgc.call @a2::@up(%0, %0) : !cgc.tensor<default>
    cgc.write @c4(%1) messages [4] order 5
  }
  cgc.program @a3 {
    %0 = cgc.read @c2 messages [2] order 3 : !cgc.tensor<default>
    %1 = cgc.read @c4 messages [4] order 5 : !cgc.tensor<default>
    %2 = cgc.call @a3::@up(%1, %0) : !cgc.object
    cgc.write @c5(%2) messages [5] order 6
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of skip_edges (v2)  registers=2
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c5
//   3  output r1
//
// program @a0 of skip_edges (v2)  registers=2  device=gpu
//   0  r0 = read c0
//   1  r1 = call down(r0)    drop r0
//   2  write c1 r1
//   3  write c2 r1    drop r1
//
// program @a1 of skip_edges (v2)  registers=2  device=gpu
//   0  r0 = read c1
//   1  r1 = call down(r0)    drop r0
//   2  write c3 r1    drop r1
//
// program @a2 of skip_edges (v2)  registers=2  device=gpu
//   0  r0 = read c3
//   1  r1 = call up(r0, r0)    drop r0
//   2  write c4 r1    drop r1
//
// program @a3 of skip_edges (v2)  registers=3  device=gpu
//   0  r0 = read c2
//   1  r1 = read c4
//   2  r2 = call up(r1, r0)    drop r0, r1
//   3  write c5 r2    drop r2

//         µs  @driver/execute  @driver/get  @a0         @a1         @a2         @a3
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*
//      104.0                                down*
//     1604.0                                write @c1*  read @c1*
//     1719.0                                write @c2   down*                   read @c2
//     3219.0                                            write @c3*  read @c3*
//     3334.0                                                        up*
//     5834.0                                                        write @c4*  read @c4*
//     5949.0                                                                    up*
//     8449.0                                                                    write @c5*
//     8552.0                   read @c5*
//     8553.0                   output*
//     8553.0  end; * is the longest path
