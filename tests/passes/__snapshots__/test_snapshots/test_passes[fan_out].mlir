// ----- import
cgc.graph @fan_out level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.actor @c actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.object
    %2 = cgc.call @b::@fwd(%0) : !cgc.object
    %3 = cgc.call @c::@fwd(%0) : !cgc.object
    cgc.output [%1, %2, %3]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @fan_out level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.actor @c actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1, %2, %3 = cgc.transfer %0 from @driver to [@a, @b, @c] via shm reason "same node" : !cgc.object, !cgc.object, !cgc.object
    %4 = cgc.call @a::@fwd(%1) : !cgc.object
    %5 = cgc.transfer %4 from @a to [@driver] via shm reason "same node" : !cgc.object
    %6 = cgc.call @b::@fwd(%2) : !cgc.object
    %7 = cgc.transfer %6 from @b to [@driver] via shm reason "same node" : !cgc.object
    %8 = cgc.call @c::@fwd(%3) : !cgc.object
    %9 = cgc.transfer %8 from @c to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%5, %7, %9]
  }
}

// ----- after pair-comm
cgc.graph @fan_out level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.actor @c actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a, @b, @c] via shm order 0
    %1 = cgc.recv message 1 from @a via shm order 7 : !cgc.object
    %2 = cgc.recv message 2 from @b via shm order 8 : !cgc.object
    %3 = cgc.recv message 3 from @c via shm order 9 : !cgc.object
    cgc.output [%1, %2, %3]
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.object
    cgc.send %1 message 1 to [@driver] via shm order 4
  }
  cgc.program @b {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @b::@fwd(%0) : !cgc.object
    cgc.send %1 message 2 to [@driver] via shm order 5
  }
  cgc.program @c {
    %0 = cgc.recv message 0 from @driver via shm order 3 : !cgc.object
    %1 = cgc.call @c::@fwd(%0) : !cgc.object
    cgc.send %1 message 3 to [@driver] via shm order 6
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @fan_out level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.actor @c actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a, @b, @c] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @c to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c1 messages [1] order 7 : !cgc.object
    %2 = cgc.read @c2 messages [2] order 8 : !cgc.object
    %3 = cgc.read @c3 messages [3] order 9 : !cgc.object
    cgc.output [%1, %2, %3]
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.object
    cgc.write @c1(%1) messages [1] order 4
  }
  cgc.program @b {
    %0 = cgc.read @c0 messages [0] order 2 : !cgc.object
    %1 = cgc.call @b::@fwd(%0) : !cgc.object
    cgc.write @c2(%1) messages [2] order 5
  }
  cgc.program @c {
    %0 = cgc.read @c0 messages [0] order 3 : !cgc.object
    %1 = cgc.call @c::@fwd(%0) : !cgc.object
    cgc.write @c3(%1) messages [3] order 6
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of fan_out (v2)  registers=4
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c1
//   3  r2 = read c2
//   4  r3 = read c3
//   5  output r1, r2, r3
//
// program @a of fan_out (v2)  registers=2
//   0  r0 = read c0
//   1  r1 = call fwd(r0)    drop r0
//   2  write c1 r1    drop r1
//
// program @b of fan_out (v2)  registers=2
//   0  r0 = read c0
//   1  r1 = call fwd(r0)    drop r0
//   2  write c2 r1    drop r1
//
// program @c of fan_out (v2)  registers=2
//   0  r0 = read c0
//   1  r1 = call fwd(r0)    drop r0
//   2  write c3 r1    drop r1
