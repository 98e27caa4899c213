// ----- after overlap-comm
// WhyNoOverlap: shm: the actor itself copies messages through host memory
cgc.graph @interleaved level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 1
    %1 = cgc.recv message 12 from @a0 via shm order 29 : !cgc.object
    %2 = cgc.recv message 14 from @a0 via shm order 34 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 4 stream 1
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %2 message 3 to [@a1] via nccl order 6 stream 1
    %3 = cgc.recv_start message 2 from @a1 via nccl order 8 stream 2 : !cgc.future<!cgc.tensor<default>>
    %4 = cgc.recv_start message 4 from @a1 via nccl order 10 stream 2 : !cgc.future<!cgc.tensor<default>>
    %5 = cgc.wait %3
    %6 = cgc.call @a0::@forward(%5) : !cgc.tensor<default>
    cgc.send %6 message 5 to [@a1] via nccl order 12 stream 1
    %7 = cgc.wait %4
    %8 = cgc.call @a0::@forward(%7) : !cgc.tensor<default>
    cgc.send %8 message 6 to [@a1] via nccl order 14 stream 1
    %9 = cgc.recv_start message 7 from @a1 via nccl order 17 stream 2 : !cgc.future<!cgc.tensor<default>>
    %10 = cgc.wait %9
    %11 = cgc.call @a0::@backward(%10) : !cgc.tensor<default>
    cgc.send %11 message 8 to [@a1] via nccl order 20 stream 1
    %12 = cgc.recv_start message 9 from @a1 via nccl order 22 stream 2 : !cgc.future<!cgc.tensor<default>>
    %13 = cgc.recv_start message 11 from @a1 via nccl order 24 stream 2 : !cgc.future<!cgc.tensor<default>>
    %14 = cgc.wait %12
    %15 = cgc.call @a0::@backward(%14) : !cgc.tensor<default>
    cgc.send %15 message 10 to [@a1] via nccl order 26 stream 1
    %16 = cgc.wait %13
    %17 = cgc.call @a0::@backward(%16) : !cgc.object
    cgc.send %17 message 12 to [@driver] via shm order 28
    %18 = cgc.recv_start message 13 from @a1 via nccl order 31 stream 2 : !cgc.future<!cgc.tensor<default>>
    %19 = cgc.wait %18
    %20 = cgc.call @a0::@backward(%19) : !cgc.object
    cgc.send %20 message 14 to [@driver] via shm order 33
  }
  cgc.program @a1 {
    %0 = cgc.recv_start message 1 from @a0 via nccl order 4 stream 2 : !cgc.future<!cgc.tensor<default>>
    %1 = cgc.recv_start message 3 from @a0 via nccl order 6 stream 2 : !cgc.future<!cgc.tensor<default>>
    %2 = cgc.wait %0
    %3 = cgc.call @a1::@forward(%2) : !cgc.tensor<default>
    cgc.send %3 message 2 to [@a0] via nccl order 8 stream 1
    %4 = cgc.wait %1
    %5 = cgc.call @a1::@forward(%4) : !cgc.tensor<default>
    cgc.send %5 message 4 to [@a0] via nccl order 10 stream 1
    %6 = cgc.recv_start message 5 from @a0 via nccl order 12 stream 2 : !cgc.future<!cgc.tensor<default>>
    %7 = cgc.recv_start message 6 from @a0 via nccl order 14 stream 2 : !cgc.future<!cgc.tensor<default>>
    %8 = cgc.wait %6
    %9 = cgc.call @a1::@forward(%8) : !cgc.object
    %10 = cgc.call @a1::@backward(%9) : !cgc.tensor<default>
    cgc.send %10 message 7 to [@a0] via nccl order 17 stream 1
    %11 = cgc.wait %7
    %12 = cgc.call @a1::@forward(%11) : !cgc.object
    %13 = cgc.recv_start message 8 from @a0 via nccl order 20 stream 2 : !cgc.future<!cgc.tensor<default>>
    %14 = cgc.call @a1::@backward(%12) : !cgc.tensor<default>
    cgc.send %14 message 9 to [@a0] via nccl order 22 stream 1
    %15 = cgc.wait %13
    %16 = cgc.call @a1::@backward(%15) : !cgc.tensor<default>
    cgc.send %16 message 11 to [@a0] via nccl order 24 stream 1
    %17 = cgc.recv_start message 10 from @a0 via nccl order 26 stream 2 : !cgc.future<!cgc.tensor<default>>
    %18 = cgc.wait %17
    %19 = cgc.call @a1::@backward(%18) : !cgc.tensor<default>
    cgc.send %19 message 13 to [@a0] via nccl order 31 stream 1
  }
}

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @interleaved level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c5 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c6 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c7 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c8 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c9 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c10 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c11 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c12 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c13 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2 = cgc.read @c12 messages [12, 14] order 15 : !cgc.object, !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2 stream 1
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c2(%2) messages [3] order 3 stream 1
    %3 = cgc.read_start @c3 messages [2] order 4 stream 2 : !cgc.future<!cgc.tensor<default>>
    %4 = cgc.read_start @c4 messages [4] order 5 stream 2 : !cgc.future<!cgc.tensor<default>>
    %5 = cgc.wait %3
    %6 = cgc.call @a0::@forward(%5) : !cgc.tensor<default>
    cgc.write @c5(%6) messages [5] order 6 stream 1
    %7 = cgc.wait %4
    %8 = cgc.call @a0::@forward(%7) : !cgc.tensor<default>
    cgc.write @c6(%8) messages [6] order 7 stream 1
    %9 = cgc.read_start @c7 messages [7] order 8 stream 2 : !cgc.future<!cgc.tensor<default>>
    %10 = cgc.wait %9
    %11 = cgc.call @a0::@backward(%10) : !cgc.tensor<default>
    cgc.write @c8(%11) messages [8] order 9 stream 1
    %12 = cgc.read_start @c9 messages [9] order 10 stream 2 : !cgc.future<!cgc.tensor<default>>
    %13 = cgc.read_start @c10 messages [11] order 11 stream 2 : !cgc.future<!cgc.tensor<default>>
    %14 = cgc.wait %12
    %15 = cgc.call @a0::@backward(%14) : !cgc.tensor<default>
    cgc.write @c11(%15) messages [10] order 12 stream 1
    %16 = cgc.wait %13
    %17 = cgc.call @a0::@backward(%16) : !cgc.object
    %18 = cgc.read_start @c13 messages [13] order 13 stream 2 : !cgc.future<!cgc.tensor<default>>
    %19 = cgc.wait %18
    %20 = cgc.call @a0::@backward(%19) : !cgc.object
    cgc.write @c12(%17, %20) messages [12, 14] order 14
  }
  cgc.program @a1 {
    %0 = cgc.read_start @c1 messages [1] order 2 stream 2 : !cgc.future<!cgc.tensor<default>>
    %1 = cgc.read_start @c2 messages [3] order 3 stream 2 : !cgc.future<!cgc.tensor<default>>
    %2 = cgc.wait %0
    %3 = cgc.call @a1::@forward(%2) : !cgc.tensor<default>
    cgc.write @c3(%3) messages [2] order 4 stream 1
    %4 = cgc.wait %1
    %5 = cgc.call @a1::@forward(%4) : !cgc.tensor<default>
    cgc.write @c4(%5) messages [4] order 5 stream 1
    %6 = cgc.read_start @c5 messages [5] order 6 stream 2 : !cgc.future<!cgc.tensor<default>>
    %7 = cgc.read_start @c6 messages [6] order 7 stream 2 : !cgc.future<!cgc.tensor<default>>
    %8 = cgc.wait %6
    %9 = cgc.call @a1::@forward(%8) : !cgc.object
    %10 = cgc.call @a1::@backward(%9) : !cgc.tensor<default>
    cgc.write @c7(%10) messages [7] order 8 stream 1
    %11 = cgc.wait %7
    %12 = cgc.call @a1::@forward(%11) : !cgc.object
    %13 = cgc.read_start @c8 messages [8] order 9 stream 2 : !cgc.future<!cgc.tensor<default>>
    %14 = cgc.call @a1::@backward(%12) : !cgc.tensor<default>
    cgc.write @c9(%14) messages [9] order 10 stream 1
    %15 = cgc.wait %13
    %16 = cgc.call @a1::@backward(%15) : !cgc.tensor<default>
    cgc.write @c10(%16) messages [11] order 11 stream 1
    %17 = cgc.read_start @c11 messages [10] order 12 stream 2 : !cgc.future<!cgc.tensor<default>>
    %18 = cgc.wait %17
    %19 = cgc.call @a1::@backward(%18) : !cgc.tensor<default>
    cgc.write @c13(%19) messages [13] order 13 stream 1
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of interleaved (v2)  registers=3
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2 = read c12
//   3  output r1, r2
//
// program @a0 of interleaved (v2)  registers=21  device=gpu
//    0  r0 = read c0
//    1  r1 = call forward(r0)
//    2  write c1 r1 on stream 1    drop r1
//    3  r2 = call forward(r0)    drop r0
//    4  write c2 r2 on stream 1    drop r2
//    5  r3 = read_start c3 on stream 2
//    6  r4 = read_start c4 on stream 2
//    7  r5 = wait r3
//    8  r6 = call forward(r5)    drop r5
//    9  write c5 r6 on stream 1    drop r6
//   10  r7 = wait r4
//   11  r8 = call forward(r7)    drop r7
//   12  write c6 r8 on stream 1    drop r8
//   13  r9 = read_start c7 on stream 2
//   14  r10 = wait r9
//   15  r11 = call backward(r10)    drop r10
//   16  write c8 r11 on stream 1    drop r11
//   17  r12 = read_start c9 on stream 2
//   18  r13 = read_start c10 on stream 2
//   19  r14 = wait r12
//   20  r15 = call backward(r14)    drop r14
//   21  write c11 r15 on stream 1    drop r15
//   22  r16 = wait r13
//   23  r17 = call backward(r16)    drop r16
//   24  r18 = read_start c13 on stream 2
//   25  r19 = wait r18
//   26  r20 = call backward(r19)    drop r19
//   27  write c12 r17, r20    drop r17, r20
//
// program @a1 of interleaved (v2)  registers=20  device=gpu
//    0  r0 = read_start c1 on stream 2
//    1  r1 = read_start c2 on stream 2
//    2  r2 = wait r0
//    3  r3 = call forward(r2)    drop r2
//    4  write c3 r3 on stream 1    drop r3
//    5  r4 = wait r1
//    6  r5 = call forward(r4)    drop r4
//    7  write c4 r5 on stream 1    drop r5
//    8  r6 = read_start c5 on stream 2
//    9  r7 = read_start c6 on stream 2
//   10  r8 = wait r6
//   11  r9 = call forward(r8)    drop r8
//   12  r10 = call backward(r9)    drop r9
//   13  write c7 r10 on stream 1    drop r10
//   14  r11 = wait r7
//   15  r12 = call forward(r11)    drop r11
//   16  r13 = read_start c8 on stream 2
//   17  r14 = call backward(r12)    drop r12
//   18  write c9 r14 on stream 1    drop r14
//   19  r15 = wait r13
//   20  r16 = call backward(r15)    drop r15
//   21  write c10 r16 on stream 1    drop r16
//   22  r17 = read_start c11 on stream 2
//   23  r18 = wait r17
//   24  r19 = call backward(r18)    drop r18
//   25  write c13 r19 on stream 1    drop r19

//         µs  @driver/execute  @driver/get  @a0                @a0/stream1  @a0/stream2  @a1                @a1/stream2  @a1/stream1
//        0.0  input*
//        0.0  write @c0*                                                                 begin read @c1
//        0.0                                                                             begin read @c2
//      103.0                                read @c0*
//      104.0                                forward*
//     1104.0                                begin write @c1*
//     1104.0                                forward            write @c1*                                   read @c1*
//     1219.0                                                                             wait*
//     1219.0                                                                             forward*
//     2104.0                                begin write @c2
//     2104.0                                begin read @c3
//     2104.0                                begin read @c4     write @c2                                    read @c2
//     2219.0                                                                read @c3*    begin write @c3*
//     2219.0                                                                             wait
//     2219.0                                                                             forward                         write @c3*
//     2334.0                                wait*
//     2334.0                                forward*
//     3219.0                                                                read @c4     begin write @c4
//     3219.0                                                                             begin read @c5
//     3219.0                                                                             begin read @c6                  write @c4
//     3334.0                                begin write @c5*
//     3334.0                                wait
//     3334.0                                forward            write @c5*                                   read @c5*
//     3449.0                                                                             wait*
//     3449.0                                                                             forward*
//     4334.0                                begin write @c6
//     4334.0                                begin read @c7     write @c6                                    read @c6
//     4449.0                                                                             backward*
//     6449.0                                                                read @c7     begin write @c7*
//     6449.0                                                                             wait*
//     6449.0                                                                             forward*                        write @c7
//     6564.0                                wait
//     6564.0                                backward
//     7449.0                                                                             begin read @c8*
//     7449.0                                                                             backward*
//     8564.0                                begin write @c8
//     8564.0                                begin read @c9
//     8564.0                                begin read @c10    write @c8                                    read @c8
//     9449.0                                                                read @c9*    begin write @c9*
//     9449.0                                                                             wait
//     9449.0                                                                             backward                        write @c9*
//     9564.0                                wait*
//     9564.0                                backward*
//    11449.0                                                                read @c10    begin write @c10
//    11449.0                                                                             begin read @c11                 write @c10
//    11564.0                                begin write @c11*
//    11564.0                                wait
//    11564.0                                backward           write @c11*                                  read @c11*
//    11679.0                                                                             wait*
//    11679.0                                                                             backward*
//    13564.0                                begin read @c13
//    13679.0                                                                read @c13*   begin write @c13*               write @c13*
//    13794.0                                wait*
//    13794.0                                backward*
//    15794.0                                write @c12*
//    15997.0                   read @c12*
//    15998.0                   output*
//    15998.0  end; * is the longest path
