// ----- after overlap-comm
// WhyNoOverlap: shm: the actor itself copies messages through host memory
cgc.graph @layered level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Layer" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Layer" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "Layer" on "n0" devices ["gpu:2"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 1
    %1 = cgc.recv message 7 from @a0 via shm order 19 : !cgc.object
    cgc.output %1
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @a0::@call0(%0) : !cgc.object
    cgc.send %1 message 1 to [@a1] via shm order 4
    %2 = cgc.recv_start message 2 from @a1 via nccl order 8 stream 2 : !cgc.future<!cgc.tensor<default>>
    %3 = cgc.recv_start message 4 from @a1 via nccl order 11 stream 2 : !cgc.future<!cgc.tensor<default>>
    %4 = cgc.wait %2
    %5 = cgc.call @a0::@call3(%4) : !cgc.tensor<default>
    cgc.send %5 message 3 to [@a2] via nccl order 13 stream 1
    %6 = cgc.wait %3
    %7 = cgc.call @a0::@call0(%5, %6) : !cgc.tensor<default>
    %8 = cgc.recv_start message 6 from @a2 via nccl order 16 stream 2 : !cgc.future<!cgc.tensor<default>>
    %9 = cgc.wait %8
    %10 = cgc.call @a0::@join(%7, %9) : !cgc.object
    cgc.send %10 message 7 to [@driver] via shm order 18
  }
  cgc.program @a1 {
    %0 = cgc.recv message 1 from @a0 via shm order 5 : !cgc.object
    %1 = cgc.call @a1::@call0(%0) : !cgc.tensor<default>
    %2 = cgc.call @a1::@call3(%0) : !cgc.tensor<default>
    cgc.send %2 message 2 to [@a0] via nccl order 8 stream 1
    %3 = cgc.call @a1::@call1(%1, %2) : !cgc.tensor<default>
    cgc.send %3 message 5 to [@a2] via nccl order 10 stream 1
    cgc.send %3 message 4 to [@a0] via nccl order 11 stream 1
  }
  cgc.program @a2 {
    %0 = cgc.recv_start message 5 from @a1 via nccl order 10 stream 2 : !cgc.future<!cgc.tensor<default>>
    %1 = cgc.recv_start message 3 from @a0 via nccl order 13 stream 2 : !cgc.future<!cgc.tensor<default>>
    %2 = cgc.wait %0
    %3 = cgc.wait %1
    %4 = cgc.call @a2::@call0(%3, %2) : !cgc.tensor<default>
    cgc.send %4 message 6 to [@a0] via nccl order 16 stream 1
  }
}

// ----- after group-comm: unchanged

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
  cgc.channel @c4 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c5 nccl from @a0 to [@a2] slots 10 slot_bytes 4096
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
    %2 = cgc.read_start @c2 messages [2] order 4 stream 2 : !cgc.future<!cgc.tensor<default>>
    %3 = cgc.read_start @c4 messages [4] order 6 stream 2 : !cgc.future<!cgc.tensor<default>>
    %4 = cgc.wait %2
    %5 = cgc.call @a0::@call3(%4) : !cgc.tensor<default>
    cgc.write @c5(%5) messages [3] order 7 stream 1
    %6 = cgc.wait %3
    %7 = cgc.call @a0::@call0(%5, %6) : !cgc.tensor<default>
    %8 = cgc.read_start @c6 messages [6] order 8 stream 2 : !cgc.future<!cgc.tensor<default>>
    %9 = cgc.wait %8
    %10 = cgc.call @a0::@join(%7, %9) : !cgc.object
    cgc.write @c7(%10) messages [7] order 9
  }
  cgc.program @a1 {
    %0 = cgc.read @c1 messages [1] order 3 : !cgc.object
    %1 = cgc.call @a1::@call0(%0) : !cgc.tensor<default>
    %2 = cgc.call @a1::@call3(%0) : !cgc.tensor<default>
    cgc.write @c2(%2) messages [2] order 4 stream 1
    %3 = cgc.call @a1::@call1(%1, %2) : !cgc.tensor<default>
    cgc.write @c3(%3) messages [5] order 5 stream 1
    cgc.write @c4(%3) messages [4] order 6 stream 1
  }
  cgc.program @a2 {
    %0 = cgc.read_start @c3 messages [5] order 5 stream 2 : !cgc.future<!cgc.tensor<default>>
    %1 = cgc.read_start @c5 messages [3] order 7 stream 2 : !cgc.future<!cgc.tensor<default>>
    %2 = cgc.wait %0
    %3 = cgc.wait %1
    %4 = cgc.call @a2::@call0(%3, %2) : !cgc.tensor<default>
    cgc.write @c6(%4) messages [6] order 8 stream 1
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
// program @a0 of layered (v2)  registers=11  device=gpu
//    0  r0 = read c0
//    1  r1 = call call0(r0)    drop r0
//    2  write c1 r1    drop r1
//    3  r2 = read_start c2 on stream 2
//    4  r3 = read_start c4 on stream 2
//    5  r4 = wait r2
//    6  r5 = call call3(r4)    drop r4
//    7  write c5 r5 on stream 1
//    8  r6 = wait r3
//    9  r7 = call call0(r5, r6)    drop r5, r6
//   10  r8 = read_start c6 on stream 2
//   11  r9 = wait r8
//   12  r10 = call join(r7, r9)    drop r7, r9
//   13  write c7 r10    drop r10
//
// program @a1 of layered (v2)  registers=4  device=gpu
//   0  r0 = read c1
//   1  r1 = call call0(r0)
//   2  r2 = call call3(r0)    drop r0
//   3  write c2 r2 on stream 1
//   4  r3 = call call1(r1, r2)    drop r1, r2
//   5  write c3 r3 on stream 1
//   6  write c4 r3 on stream 1    drop r3
//
// program @a2 of layered (v2)  registers=5  device=gpu
//   0  r0 = read_start c3 on stream 2
//   1  r1 = read_start c5 on stream 2
//   2  r2 = wait r0
//   3  r3 = wait r1
//   4  r4 = call call0(r3, r2)    drop r2, r3
//   5  write c6 r4 on stream 1    drop r4

//         µs  @driver/execute  @driver/get  @a0               @a0/stream2  @a0/stream1  @a1               @a1/stream1  @a2               @a2/stream2  @a2/stream1
//        0.0  input*
//        0.0  write @c0*                                                                                               begin read @c3
//        0.0                                                                                                           begin read @c5
//      103.0                                read @c0*
//      104.0                                call0*
//      604.0                                write @c1*
//      705.0                                begin read @c2
//      705.0                                begin read @c4
//      707.0                                                                            read @c1*
//      708.0                                                                            call0*
//     1208.0                                                                            call3*
//     5208.0                                                  read @c2*                 begin write @c2*
//     5208.0                                                                            call1             write @c2*
//     5323.0                                wait*
//     5323.0                                call3*
//     6208.0                                                                            begin write @c3
//     6208.0                                                                            begin write @c4   write @c3                      read @c3
//     6323.0                                                  read @c4                                    write @c4    wait
//     9323.0                                begin write @c5*
//     9323.0                                wait
//     9323.0                                call0                          write @c5*                                                    read @c5*
//     9438.0                                                                                                           wait*
//     9438.0                                                                                                           call0*
//     9823.0                                begin read @c6
//     9938.0                                                  read @c6*                                                begin write @c6*               write @c6*
//    10053.0                                wait*
//    10053.0                                join*
//    10153.0                                write @c7*
//    10256.0                   read @c7*
//    10257.0                   output*
//    10257.0  end; * is the longest path
