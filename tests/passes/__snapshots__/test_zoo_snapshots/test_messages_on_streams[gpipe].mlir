// ----- after overlap-comm
// WhyNoOverlap: shm: the actor itself copies messages through host memory
cgc.graph @gpipe level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a0] via shm order 1
    %1 = cgc.recv message 4 from @a0 via shm order 15 : !cgc.object
    %2 = cgc.recv message 6 from @a0 via shm order 18 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@a1] via nccl order 4 stream 1
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.send %2 message 2 to [@a1] via nccl order 6 stream 1
    %3 = cgc.recv_start message 3 from @a1 via nccl order 10 stream 2 : !cgc.future<!cgc.tensor<default>>
    %4 = cgc.recv_start message 5 from @a1 via nccl order 12 stream 2 : !cgc.future<!cgc.tensor<default>>
    %5 = cgc.wait %3
    %6 = cgc.call @a0::@backward(%5) : !cgc.object
    cgc.send %6 message 4 to [@driver] via shm order 14
    %7 = cgc.wait %4
    %8 = cgc.call @a0::@backward(%7) : !cgc.object
    cgc.send %8 message 6 to [@driver] via shm order 17
  }
  cgc.program @a1 {
    %0 = cgc.recv_start message 1 from @a0 via nccl order 4 stream 2 : !cgc.future<!cgc.tensor<default>>
    %1 = cgc.recv_start message 2 from @a0 via nccl order 6 stream 2 : !cgc.future<!cgc.tensor<default>>
    %2 = cgc.wait %0
    %3 = cgc.call @a1::@forward(%2) : !cgc.object
    %4 = cgc.wait %1
    %5 = cgc.call @a1::@forward(%4) : !cgc.object
    %6 = cgc.call @a1::@backward(%3) : !cgc.tensor<default>
    cgc.send %6 message 3 to [@a0] via nccl order 10 stream 1
    %7 = cgc.call @a1::@backward(%5) : !cgc.tensor<default>
    cgc.send %7 message 5 to [@a0] via nccl order 12 stream 1
  }
}

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @gpipe level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.channel @c0 shm from @driver to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a0 to [@a1] slots 10 slot_bytes 4096
  cgc.channel @c3 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c4 nccl from @a1 to [@a0] slots 10 slot_bytes 4096
  cgc.channel @c5 shm from @a0 to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2 = cgc.read @c5 messages [4, 6] order 7 : !cgc.object, !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a0 {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2 stream 1
    %2 = cgc.call @a0::@forward(%0) : !cgc.tensor<default>
    cgc.write @c2(%2) messages [2] order 3 stream 1
    %3 = cgc.read_start @c3 messages [3] order 4 stream 2 : !cgc.future<!cgc.tensor<default>>
    %4 = cgc.read_start @c4 messages [5] order 5 stream 2 : !cgc.future<!cgc.tensor<default>>
    %5 = cgc.wait %3
    %6 = cgc.call @a0::@backward(%5) : !cgc.object
    %7 = cgc.wait %4
    %8 = cgc.call @a0::@backward(%7) : !cgc.object
    cgc.write @c5(%6, %8) messages [4, 6] order 6
  }
  cgc.program @a1 {
    %0 = cgc.read_start @c1 messages [1] order 2 stream 2 : !cgc.future<!cgc.tensor<default>>
    %1 = cgc.read_start @c2 messages [2] order 3 stream 2 : !cgc.future<!cgc.tensor<default>>
    %2 = cgc.wait %0
    %3 = cgc.call @a1::@forward(%2) : !cgc.object
    %4 = cgc.wait %1
    %5 = cgc.call @a1::@forward(%4) : !cgc.object
    %6 = cgc.call @a1::@backward(%3) : !cgc.tensor<default>
    cgc.write @c3(%6) messages [3] order 4 stream 1
    %7 = cgc.call @a1::@backward(%5) : !cgc.tensor<default>
    cgc.write @c4(%7) messages [5] order 5 stream 1
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of gpipe (v2)  registers=3
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2 = read c5
//   3  output r1, r2
//
// program @a0 of gpipe (v2)  registers=9  device=gpu
//    0  r0 = read c0
//    1  r1 = call forward(r0)
//    2  write c1 r1 on stream 1    drop r1
//    3  r2 = call forward(r0)    drop r0
//    4  write c2 r2 on stream 1    drop r2
//    5  r3 = read_start c3 on stream 2
//    6  r4 = read_start c4 on stream 2
//    7  r5 = wait r3
//    8  r6 = call backward(r5)    drop r5
//    9  r7 = wait r4
//   10  r8 = call backward(r7)    drop r7
//   11  write c5 r6, r8    drop r6, r8
//
// program @a1 of gpipe (v2)  registers=8  device=gpu
//   0  r0 = read_start c1 on stream 2
//   1  r1 = read_start c2 on stream 2
//   2  r2 = wait r0
//   3  r3 = call forward(r2)    drop r2
//   4  r4 = wait r1
//   5  r5 = call forward(r4)    drop r4
//   6  r6 = call backward(r3)    drop r3
//   7  write c3 r6 on stream 1    drop r6
//   8  r7 = call backward(r5)    drop r5
//   9  write c4 r7 on stream 1    drop r7

//         µs  @driver/execute  @driver/get  @a0               @a0/stream1  @a0/stream2  @a1               @a1/stream2  @a1/stream1
//        0.0  input*
//        0.0  write @c0*                                                                begin read @c1
//        0.0                                                                            begin read @c2
//      103.0                                read @c0*
//      104.0                                forward*
//     1104.0                                begin write @c1*
//     1104.0                                forward*          write @c1                                   read @c1
//     1219.0                                                                            wait
//     1219.0                                                                            forward
//     2104.0                                begin write @c2*
//     2104.0                                begin read @c3
//     2104.0                                begin read @c4    write @c2*                                  read @c2*
//     2219.0                                                                            wait*
//     2219.0                                                                            forward*
//     3219.0                                                                            backward*
//     5219.0                                                               read @c3     begin write @c3*
//     5219.0                                                                            backward*                      write @c3
//     5334.0                                wait
//     5334.0                                backward
//     7219.0                                                               read @c4*    begin write @c4*               write @c4*
//     7334.0                                wait*
//     7334.0                                backward*
//     9334.0                                write @c5*
//     9537.0                   read @c5*
//     9538.0                   output*
//     9538.0  end; * is the longest path
