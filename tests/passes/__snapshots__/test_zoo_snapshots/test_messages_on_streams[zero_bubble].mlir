// ----- after overlap-comm
// WhyNoOverlap: shm: the actor itself copies messages through host memory
cgc.graph @zero_bubble level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "SplitStage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "SplitStage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 1
    %1 = cgc.recv message 4 from @a0 via shm order 13 : !cgc.object
    %2 = cgc.recv message 5 from @a0 via shm order 18 : !cgc.object
    %3 = cgc.recv message 8 from @a1 via shm order 21 : !cgc.object
    %4 = cgc.recv message 9 from @a0 via shm order 26 : !cgc.object
    %5 = cgc.recv message 10 from @a0 via shm order 32 : !cgc.object
    %6 = cgc.recv message 13 from @a1 via shm order 35 : !cgc.object
    %7 = cgc.recv message 12 from @a0 via shm order 38 : !cgc.object
    %8 = cgc.recv message 15 from @a1 via shm order 41 : !cgc.object
    %9 = cgc.recv message 14 from @a0 via shm order 44 : !cgc.object
    cgc.output [%1, %2, %3, %4, %5, %7, %6, %9, %8]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 4 stream 1
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %2 message 2 to [@a1] via nccl order 6 stream 1
    %3 = cgc.recv_start message 3 from @a1 via nccl order 9 stream 2 : !cgc.future<!cgc.tensor<default>>
    %4 = cgc.wait %3
    %5 = cgc.call @a0::@backward(%4) : !cgc.object
    cgc.send %5 message 4 to [@driver] via shm order 12
    %6 = cgc.recv_start message 6 from @a1 via nccl order 15 stream 2 : !cgc.future<!cgc.tensor<default>>
    %7 = cgc.call @a0::@weights(%5) : !cgc.object
    cgc.send %7 message 5 to [@driver] via shm order 17
    %8 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %8 message 7 to [@a1] via nccl order 23 stream 1
    %9 = cgc.wait %6
    %10 = cgc.call @a0::@backward(%9) : !cgc.object
    cgc.send %10 message 9 to [@driver] via shm order 25
    %11 = cgc.call @a0::@weights(%10) : !cgc.object
    %12 = cgc.recv_start message 11 from @a1 via nccl order 30 stream 2 : !cgc.future<!cgc.tensor<default>>
    cgc.send %11 message 10 to [@driver] via shm order 31
    %13 = cgc.wait %12
    %14 = cgc.call @a0::@backward(%13) : !cgc.object
    cgc.send %14 message 12 to [@driver] via shm order 37
    %15 = cgc.call @a0::@weights(%14) : !cgc.object
    cgc.send %15 message 14 to [@driver] via shm order 43
  }
  cgc.program @a1 {
    %0 = cgc.recv_start message 1 from @a0 via nccl order 4 stream 2 : !cgc.future<!cgc.tensor<default>>
    %1 = cgc.recv_start message 2 from @a0 via nccl order 6 stream 2 : !cgc.future<!cgc.tensor<default>>
    %2 = cgc.wait %0
    %3 = cgc.call @a1::@forward(%2) : !cgc.object
    %4 = cgc.call @a1::@backward(%3) : !cgc.tensor<default>
    cgc.send %4 message 3 to [@a0] via nccl order 9 stream 1
    %5 = cgc.wait %1
    %6 = cgc.call @a1::@forward(%5) : !cgc.object
    %7 = cgc.call @a1::@backward(%6) : !cgc.tensor<default>
    cgc.send %7 message 6 to [@a0] via nccl order 15 stream 1
    %8 = cgc.call @a1::@weights(%4) : !cgc.object
    cgc.send %8 message 8 to [@driver] via shm order 20
    %9 = cgc.recv_start message 7 from @a0 via nccl order 23 stream 2 : !cgc.future<!cgc.tensor<default>>
    %10 = cgc.wait %9
    %11 = cgc.call @a1::@forward(%10) : !cgc.object
    %12 = cgc.call @a1::@backward(%11) : !cgc.tensor<default>
    cgc.send %12 message 11 to [@a0] via nccl order 30 stream 1
    %13 = cgc.call @a1::@weights(%7) : !cgc.object
    cgc.send %13 message 13 to [@driver] via shm order 34
    %14 = cgc.call @a1::@weights(%12) : !cgc.object
    cgc.send %14 message 15 to [@driver] via shm order 40
  }
}

// ----- after group-comm: unchanged

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
  cgc.channel @c5 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c6 shm from @a1 to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c7 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c8 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2, %3, %4, %5, %6 = cgc.read @c4 messages [4, 5, 9, 10, 12, 14] order 10 : !cgc.object, !cgc.object, !cgc.object, !cgc.object, !cgc.object, !cgc.object
    %7, %8, %9 = cgc.read @c6 messages [8, 13, 15] order 11 : !cgc.object, !cgc.object, !cgc.object
    cgc.output [%1, %2, %7, %3, %4, %5, %8, %6, %9]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2 stream 1
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c2(%2) messages [2] order 3 stream 1
    %3 = cgc.read_start @c3 messages [3] order 4 stream 2 : !cgc.future<!cgc.tensor<default>>
    %4 = cgc.wait %3
    %5 = cgc.call @a0::@backward(%4) : !cgc.object
    %6 = cgc.read_start @c5 messages [6] order 5 stream 2 : !cgc.future<!cgc.tensor<default>>
    %7 = cgc.call @a0::@weights(%5) : !cgc.object
    %8 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c7(%8) messages [7] order 6 stream 1
    %9 = cgc.wait %6
    %10 = cgc.call @a0::@backward(%9) : !cgc.object
    %11 = cgc.call @a0::@weights(%10) : !cgc.object
    %12 = cgc.read_start @c8 messages [11] order 7 stream 2 : !cgc.future<!cgc.tensor<default>>
    %13 = cgc.wait %12
    %14 = cgc.call @a0::@backward(%13) : !cgc.object
    %15 = cgc.call @a0::@weights(%14) : !cgc.object
    cgc.write @c4(%5, %7, %10, %11, %14, %15) messages [4, 5, 9, 10, 12, 14] order 9
  }
  cgc.program @a1 {
    %0 = cgc.read_start @c1 messages [1] order 2 stream 2 : !cgc.future<!cgc.tensor<default>>
    %1 = cgc.read_start @c2 messages [2] order 3 stream 2 : !cgc.future<!cgc.tensor<default>>
    %2 = cgc.wait %0
    %3 = cgc.call @a1::@forward(%2) : !cgc.object
    %4 = cgc.call @a1::@backward(%3) : !cgc.tensor<default>
    cgc.write @c3(%4) messages [3] order 4 stream 1
    %5 = cgc.wait %1
    %6 = cgc.call @a1::@forward(%5) : !cgc.object
    %7 = cgc.call @a1::@backward(%6) : !cgc.tensor<default>
    cgc.write @c5(%7) messages [6] order 5 stream 1
    %8 = cgc.call @a1::@weights(%4) : !cgc.object
    %9 = cgc.read_start @c7 messages [7] order 6 stream 2 : !cgc.future<!cgc.tensor<default>>
    %10 = cgc.wait %9
    %11 = cgc.call @a1::@forward(%10) : !cgc.object
    %12 = cgc.call @a1::@backward(%11) : !cgc.tensor<default>
    cgc.write @c8(%12) messages [11] order 7 stream 1
    %13 = cgc.call @a1::@weights(%7) : !cgc.object
    %14 = cgc.call @a1::@weights(%12) : !cgc.object
    cgc.write @c6(%8, %13, %14) messages [8, 13, 15] order 8
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of zero_bubble (v2)  registers=10
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2, r3, r4, r5, r6 = read c4
//   3  r7, r8, r9 = read c6
//   4  output r1, r2, r7, r3, r4, r5, r8, r6, r9
//
// program @a0 of zero_bubble (v2)  registers=16  device=gpu
//    0  r0 = read c0
//    1  r1 = call forward(r0)
//    2  write c1 r1 on stream 1    drop r1
//    3  r2 = call forward(r0)
//    4  write c2 r2 on stream 1    drop r2
//    5  r3 = read_start c3 on stream 2
//    6  r4 = wait r3
//    7  r5 = call backward(r4)    drop r4
//    8  r6 = read_start c5 on stream 2
//    9  r7 = call weights(r5)
//   10  r8 = call forward(r0)    drop r0
//   11  write c7 r8 on stream 1    drop r8
//   12  r9 = wait r6
//   13  r10 = call backward(r9)    drop r9
//   14  r11 = call weights(r10)
//   15  r12 = read_start c8 on stream 2
//   16  r13 = wait r12
//   17  r14 = call backward(r13)    drop r13
//   18  r15 = call weights(r14)
//   19  write c4 r5, r7, r10, r11, r14, r15    drop r5, r7, r10, r11, r14, r15
//
// program @a1 of zero_bubble (v2)  registers=15  device=gpu
//    0  r0 = read_start c1 on stream 2
//    1  r1 = read_start c2 on stream 2
//    2  r2 = wait r0
//    3  r3 = call forward(r2)    drop r2
//    4  r4 = call backward(r3)    drop r3
//    5  write c3 r4 on stream 1
//    6  r5 = wait r1
//    7  r6 = call forward(r5)    drop r5
//    8  r7 = call backward(r6)    drop r6
//    9  write c5 r7 on stream 1
//   10  r8 = call weights(r4)    drop r4
//   11  r9 = read_start c7 on stream 2
//   12  r10 = wait r9
//   13  r11 = call forward(r10)    drop r10
//   14  r12 = call backward(r11)    drop r11
//   15  write c8 r12 on stream 1
//   16  r13 = call weights(r7)    drop r7
//   17  r14 = call weights(r12)    drop r12
//   18  write c6 r8, r13, r14    drop r8, r13, r14

//         µs  @driver/execute  @driver/get  @a0               @a0/stream1  @a0/stream2  @a1               @a1/stream2  @a1/stream1
//        0.0  input*
//        0.0  write @c0*                                                                begin read @c1
//        0.0                                                                            begin read @c2
//      103.0                                read @c0*
//      104.0                                forward*
//     1104.0                                begin write @c1*
//     1104.0                                forward           write @c1*                                  read @c1*
//     1219.0                                                                            wait*
//     1219.0                                                                            forward*
//     2104.0                                begin write @c2
//     2104.0                                begin read @c3    write @c2                                   read @c2
//     2219.0                                                                            backward*
//     3219.0                                                               read @c3*    begin write @c3*
//     3219.0                                                                            wait
//     3219.0                                                                            forward                        write @c3*
//     3334.0                                wait*
//     3334.0                                backward*
//     4219.0                                                                            backward
//     4334.0                                begin read @c5*
//     4334.0                                weights*
//     5219.0                                                               read @c5     begin write @c5
//     5219.0                                                                            weights                        write @c5
//     5334.0                                forward*
//     6219.0                                                                            begin read @c7
//     6334.0                                begin write @c7*
//     6334.0                                wait
//     6334.0                                backward          write @c7*                                  read @c7*
//     6449.0                                                                            wait*
//     6449.0                                                                            forward*
//     7334.0                                weights
//     7449.0                                                                            backward*
//     8334.0                                begin read @c8
//     8449.0                                                               read @c8*    begin write @c8*
//     8449.0                                                                            weights                        write @c8*
//     8564.0                                wait*
//     8564.0                                backward*
//     9449.0                                                                            weights
//     9564.0                                weights*
//    10449.0                                                                            write @c6
//    10564.0                                write @c4*
//    11167.0                   read @c4*
//    11168.0                   read @c6*
//    11169.0                   output*
//    11169.0  end; * is the longest path
