// ----- import
cgc.graph @calls_of_constants level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@load("weights") : !cgc.object
    %2 = cgc.call @b::@load(1) : !cgc.object
    %3 = cgc.call @a::@apply(%1, %0) : !cgc.object
    cgc.output [%3, %2, %0]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls
cgc.graph @calls_of_constants level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.trigger : !cgc.object
    %1 = cgc.input : !cgc.object
    %2 = cgc.call @a::@load("weights") after(%1) : !cgc.object
    %3 = cgc.call @b::@load(1) after(%0) : !cgc.object
    %4 = cgc.call @a::@apply(%2, %1) : !cgc.object
    cgc.output [%4, %3, %1]
  }
}

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @calls_of_constants level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.trigger : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@b] via shm reason "same node" : !cgc.object
    %2 = cgc.input : !cgc.object
    %3 = cgc.transfer %2 from @driver to [@a] via shm reason "same node" : !cgc.object
    %4 = cgc.call @a::@load("weights") after(%3) : !cgc.object
    %5 = cgc.call @b::@load(1) after(%1) : !cgc.object
    %6 = cgc.transfer %5 from @b to [@driver] via shm reason "same node" : !cgc.object
    %7 = cgc.call @a::@apply(%4, %3) : !cgc.object
    %8 = cgc.transfer %7 from @a to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%8, %6, %2]
  }
}

// ----- after pair-comm
cgc.graph @calls_of_constants level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.trigger : !cgc.object
    cgc.send %0 message 0 to [@b] via shm order 0
    %1 = cgc.input : !cgc.object
    cgc.send %1 message 1 to [@a] via shm order 1
    %2 = cgc.recv message 2 from @b via shm order 5 : !cgc.object
    %3 = cgc.recv message 3 from @a via shm order 7 : !cgc.object
    cgc.output [%3, %2, %1]
  }
  cgc.program @a {
    %0 = cgc.recv message 1 from @driver via shm order 3 : !cgc.object
    %1 = cgc.call @a::@load("weights") after(%0) : !cgc.object
    %2 = cgc.call @a::@apply(%1, %0) : !cgc.object
    cgc.send %2 message 3 to [@driver] via shm order 6
  }
  cgc.program @b {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.call @b::@load(1) after(%0) : !cgc.object
    cgc.send %1 message 2 to [@driver] via shm order 4
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @calls_of_constants level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@b] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @a to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.trigger : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.input : !cgc.object
    cgc.write @c1(%1) messages [1] order 1
    %2 = cgc.read @c2 messages [2] order 6 : !cgc.object
    %3 = cgc.read @c3 messages [3] order 7 : !cgc.object
    cgc.output [%3, %2, %1]
  }
  cgc.program @a {
    %0 = cgc.read @c1 messages [1] order 3 : !cgc.object
    %1 = cgc.call @a::@load("weights") after(%0) : !cgc.object
    %2 = cgc.call @a::@apply(%1, %0) : !cgc.object
    cgc.write @c3(%2) messages [3] order 5
  }
  cgc.program @b {
    %0 = cgc.read @c0 messages [0] order 2 : !cgc.object
    %1 = cgc.call @b::@load(1) after(%0) : !cgc.object
    cgc.write @c2(%1) messages [2] order 4
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of calls_of_constants (v2)  registers=4
//   0  r0 = input
//   1  write c0 r1    drop r1
//   2  write c1 r0
//   3  r2 = read c2
//   4  r3 = read c3
//   5  output r3, r2, r0
//
// program @a of calls_of_constants (v2)  registers=3
//   0  r0 = read c1
//   1  r1 = call load('weights')
//   2  r2 = call apply(r1, r0)    drop r0, r1
//   3  write c3 r2    drop r2
//
// program @b of calls_of_constants (v2)  registers=2
//   0  r0 = read c0
//   1  r1 = call load(1)    drop r0
//   2  write c2 r1    drop r1
