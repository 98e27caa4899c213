cgc.graph @fuzz level = graph, max_inflight = 8 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "C0" on "n0"
  cgc.actor @a1 actor class "C1" on "n0"
  cgc.actor @a2 actor class "C2" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@first(%0) : !cgc.object
    %2 = cgc.call @a2::@make() : !cgc.object
    %3 = cgc.call @a1::@make() : !cgc.object
    %4, %5, %6 = cgc.allgather(%2, %3, %1) on [@a2, @a1, @a0] via gloo : !cgc.tensor<default, direct>, !cgc.tensor<default, direct>, !cgc.tensor<default, direct>
    %7, %8, %9 = cgc.call @a0::@m2(%3, %4, %1) : !cgc.object, !cgc.object, !cgc.object
    %10, %11, %12 = cgc.allreduce max(%2, %9, %5) on [@a2, @a0, @a1] via gloo : !cgc.tensor<default, direct>, !cgc.tensor<default, direct>, !cgc.tensor<default, direct>
    %13, %14, %15 = cgc.allreduce max(%3, %9, %10) on [@a1, @a0, @a2] via gloo : !cgc.tensor<default, direct>, !cgc.tensor<default, direct>, !cgc.tensor<default, direct>
    %16, %17, %18 = cgc.call @a2::@m2(%11, %6) : !cgc.tensor<default, float32, via gloo>, !cgc.tensor<default, float32, via gloo>, !cgc.tensor<default, float32, via gloo>
    %19 = cgc.call @a0::@m2(%5, %8) : !cgc.tensor<default, [64, 64], float32, via shm>
    %20, %21, %22 = cgc.call @a1::@m2(%6) : !cgc.tensor<default, [65536], float32, via shm>, !cgc.tensor<default, [65536], float32, via shm>, !cgc.tensor<default, [65536], float32, via shm>
    %23 = cgc.call @a1::@last(%12) : !cgc.object
    %24 = cgc.call @a1::@last(%13) : !cgc.object
    %25 = cgc.call @a0::@last(%14) : !cgc.object
    %26 = cgc.call @a2::@last(%15) : !cgc.object
    %27 = cgc.call @a2::@last(%16) : !cgc.object
    %28 = cgc.call @a2::@last(%17) : !cgc.object
    %29 = cgc.call @a2::@last(%18) : !cgc.object
    %30 = cgc.call @a0::@last(%19) : !cgc.object
    %31 = cgc.call @a1::@last(%20) : !cgc.object
    %32 = cgc.call @a1::@last(%21) : !cgc.object
    %33 = cgc.call @a1::@last(%22) : !cgc.object
    cgc.output [%7, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33]
  }
}
