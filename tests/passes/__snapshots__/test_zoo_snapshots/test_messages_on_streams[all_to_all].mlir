// ----- after overlap-comm
// WhyNoOverlap: shm: the actor itself copies messages through host memory
cgc.graph @all_to_all level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Expert" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Expert" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0, @a1] via shm order 1
    %1 = cgc.recv message 5 from @a0 via shm order 18 : !cgc.object
    %2 = cgc.recv message 6 from @a1 via shm order 19 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @a0::@tokens(%0) : !cgc.object
    %2, %3 = cgc.call @a0::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.send %3 message 1 to [@a1] via nccl order 7 stream 1
    %4 = cgc.recv_start message 2 from @a1 via nccl order 9 stream 2 : !cgc.future<!cgc.tensor<default>>
    %5 = cgc.recv_start message 4 from @a1 via nccl order 11 stream 2 : !cgc.future<!cgc.tensor<default>>
    %6 = cgc.wait %4
    %7, %8 = cgc.call @a0::@expert(%2, %6) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.send %8 message 3 to [@a1] via nccl order 13 stream 1
    %9 = cgc.wait %5
    %10 = cgc.call @a0::@combine(%7, %9) : !cgc.object
    cgc.send %10 message 5 to [@driver] via shm order 16
  }
  cgc.program @a1 {
    %0 = cgc.recv message 0 from @driver via shm order 3 : !cgc.object
    %1 = cgc.call @a1::@tokens(%0) : !cgc.object
    %2 = cgc.recv_start message 1 from @a0 via nccl order 7 stream 2 : !cgc.future<!cgc.tensor<default>>
    %3, %4 = cgc.call @a1::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.send %3 message 2 to [@a0] via nccl order 9 stream 1
    %5 = cgc.wait %2
    %6, %7 = cgc.call @a1::@expert(%5, %4) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.send %6 message 4 to [@a0] via nccl order 11 stream 1
    %8 = cgc.recv_start message 3 from @a0 via nccl order 13 stream 2 : !cgc.future<!cgc.tensor<default>>
    %9 = cgc.wait %8
    %10 = cgc.call @a1::@combine(%9, %7) : !cgc.object
    cgc.send %10 message 6 to [@driver] via shm order 17
  }
}

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @all_to_all level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Expert" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Expert" on "n0" devices ["gpu:1"]
  cgc.channel @c0 shm from @driver to [@a0, @a1] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c5 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c6 shm from @a1 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c5 messages [5] order 9 : !cgc.object
    %2 = cgc.read @c6 messages [6] order 10 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@tokens(%0) : !cgc.object
    %2, %3 = cgc.call @a0::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.write @c1(%3) messages [1] order 3 stream 1
    %4 = cgc.read_start @c2 messages [2] order 4 stream 2 : !cgc.future<!cgc.tensor<default>>
    %5 = cgc.read_start @c3 messages [4] order 5 stream 2 : !cgc.future<!cgc.tensor<default>>
    %6 = cgc.wait %4
    %7, %8 = cgc.call @a0::@expert(%2, %6) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.write @c4(%8) messages [3] order 6 stream 1
    %9 = cgc.wait %5
    %10 = cgc.call @a0::@combine(%7, %9) : !cgc.object
    cgc.write @c5(%10) messages [5] order 7
  }
  cgc.program @a1 {
    %0 = cgc.read @c0 messages [0] order 2 : !cgc.object
    %1 = cgc.call @a1::@tokens(%0) : !cgc.object
    %2 = cgc.read_start @c1 messages [1] order 3 stream 2 : !cgc.future<!cgc.tensor<default>>
    %3, %4 = cgc.call @a1::@dispatch(%1) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.write @c2(%3) messages [2] order 4 stream 1
    %5 = cgc.wait %2
    %6, %7 = cgc.call @a1::@expert(%5, %4) : !cgc.tensor<default>, !cgc.tensor<default>
    cgc.write @c3(%6) messages [4] order 5 stream 1
    %8 = cgc.read_start @c4 messages [3] order 6 stream 2 : !cgc.future<!cgc.tensor<default>>
    %9 = cgc.wait %8
    %10 = cgc.call @a1::@combine(%9, %7) : !cgc.object
    cgc.write @c6(%10) messages [6] order 8
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
// program @a0 of all_to_all (v2)  registers=11  device=gpu
//    0  r0 = read c0
//    1  r1 = call tokens(r0)    drop r0
//    2  r2, r3 = call dispatch(r1)    drop r1
//    3  write c1 r3 on stream 1    drop r3
//    4  r4 = read_start c2 on stream 2
//    5  r5 = read_start c3 on stream 2
//    6  r6 = wait r4
//    7  r7, r8 = call expert(r2, r6)    drop r2, r6
//    8  write c4 r8 on stream 1    drop r8
//    9  r9 = wait r5
//   10  r10 = call combine(r7, r9)    drop r7, r9
//   11  write c5 r10    drop r10
//
// program @a1 of all_to_all (v2)  registers=11  device=gpu
//    0  r0 = read c0
//    1  r1 = call tokens(r0)    drop r0
//    2  r2 = read_start c1 on stream 2
//    3  r3, r4 = call dispatch(r1)    drop r1
//    4  write c2 r3 on stream 1    drop r3
//    5  r5 = wait r2
//    6  r6, r7 = call expert(r5, r4)    drop r4, r5
//    7  write c3 r6 on stream 1    drop r6
//    8  r8 = read_start c4 on stream 2
//    9  r9 = wait r8
//   10  r10 = call combine(r9, r7)    drop r7, r9
//   11  write c6 r10    drop r10

//         µs  @driver/execute  @driver/get  @a0               @a0/stream1  @a0/stream2  @a1               @a1/stream2  @a1/stream1
//        0.0  input*
//        0.0  write @c0*
//      103.0                                read @c0*                                   read @c0
//      104.0                                tokens*                                     tokens
//      604.0                                dispatch*                                   begin read @c1
//      604.0                                                                            dispatch
//      904.0                                begin write @c1*
//      904.0                                begin read @c2
//      904.0                                begin read @c3    write @c1*   read @c2     begin write @c2   read @c1*    write @c2
//     1019.0                                wait
//     1019.0                                expert                                      wait*
//     1019.0                                                                            expert*
//     4019.0                                begin write @c4   write @c4    read @c3*    begin write @c3*
//     4019.0                                                                            begin read @c4    read @c4     write @c3*
//     4134.0                                wait*
//     4134.0                                combine*                                    wait
//     4134.0                                                                            combine
//     4434.0                                write @c5*                                  write @c6
//     4537.0                   read @c5*
//     4538.0                   read @c6*
//     4539.0                   output*
//     4539.0  end; * is the longest path
