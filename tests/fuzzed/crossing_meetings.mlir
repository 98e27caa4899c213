cgc.graph @fuzz level = graph, max_inflight = 11 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a0 actor class "C0" on "n0" devices ["gpu:0"]
  cgc.actor @a1 actor class "C1" on "n0" devices ["gpu:1"]
  cgc.actor @a2 actor class "C2" on "n0" devices ["gpu:2"]
  cgc.actor @a3 actor class "C3" on "n0"
  cgc.actor @a4 actor class "C4" on "n0"
  cgc.actor @a5 actor class "C0" on "n0" devices ["gpu:5"]
  cgc.actor @a6 actor class "C1" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a0::@first(%0) : !cgc.object
    %2 = cgc.call @a4::@m2(%1) : !cgc.tensor<default, [64, 64], float32, via gloo, static>
    %3, %4 = cgc.call @a1::@m0(%1, %0) : !cgc.tensor<default, float32, via gloo>, !cgc.tensor<default, float32, via gloo>
    %5 = cgc.call @a4::@m3() : !cgc.object
    %6 = cgc.call @a6::@m2(%2, %1) : !cgc.tensor<default, [8], float32, via gloo, static>
    %7, %8 = cgc.call @a5::@m0(%6, %5) : !cgc.tensor<default, [64, 64], float32, via gloo>, !cgc.tensor<default, [64, 64], float32, via gloo>
    %9 = cgc.call @a5::@m3(%3, %4) : !cgc.tensor<default, [64, 64], float32, via auto, static>
    %10, %11, %12 = cgc.call @a2::@m3(%8, %4) : !cgc.object, !cgc.object, !cgc.object
    %13 = cgc.call @a1::@m3() : !cgc.tensor<default, float32, via auto>
    %14 = cgc.call @a3::@m1(%11) : !cgc.object
    %15 = cgc.call @a5::@last(%7) : !cgc.object
    %16 = cgc.call @a5::@last(%9) : !cgc.object
    %17 = cgc.call @a1::@last(%13) : !cgc.object
    cgc.output [%15, %16, %10, %12, %17, %14]
  }
}
