// ----- import
cgc.graph @several_results level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.actor @c actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1, %2 = cgc.call @a::@split(%0) : !cgc.object, !cgc.object
    %3, %4 = cgc.call @b::@split(%1, %2) : !cgc.object, !cgc.object
    %5 = cgc.call @c::@fwd(%3) : !cgc.object
    %6 = cgc.call @a::@fwd(%4) : !cgc.object
    cgc.output [%5, %6]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @several_results level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.actor @c actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm reason "same node" : !cgc.object
    %2, %3 = cgc.call @a::@split(%1) : !cgc.object, !cgc.object
    %4 = cgc.transfer %2 from @a to [@b] via shm reason "same node" : !cgc.object
    %5 = cgc.transfer %3 from @a to [@b] via shm reason "same node" : !cgc.object
    %6, %7 = cgc.call @b::@split(%4, %5) : !cgc.object, !cgc.object
    %8 = cgc.transfer %6 from @b to [@c] via shm reason "same node" : !cgc.object
    %9 = cgc.transfer %7 from @b to [@a] via shm reason "same node" : !cgc.object
    %10 = cgc.call @c::@fwd(%8) : !cgc.object
    %11 = cgc.transfer %10 from @c to [@driver] via shm reason "same node" : !cgc.object
    %12 = cgc.call @a::@fwd(%9) : !cgc.object
    %13 = cgc.transfer %12 from @a to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%11, %13]
  }
}

// ----- after pair-comm
cgc.graph @several_results level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.actor @c actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a] via shm order 0
    %1 = cgc.recv message 5 from @c via shm order 12 : !cgc.object
    %2 = cgc.recv message 6 from @a via shm order 13 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1, %2 = cgc.call @a::@split(%0) : !cgc.object, !cgc.object
    cgc.send %1 message 1 to [@b] via shm order 2
    cgc.send %2 message 2 to [@b] via shm order 3
    %3 = cgc.recv message 4 from @b via shm order 9 : !cgc.object
    %4 = cgc.call @a::@fwd(%3) : !cgc.object
    cgc.send %4 message 6 to [@driver] via shm order 11
  }
  cgc.program @b {
    %0 = cgc.recv message 1 from @a via shm order 4 : !cgc.object
    %1 = cgc.recv message 2 from @a via shm order 5 : !cgc.object
    %2, %3 = cgc.call @b::@split(%0, %1) : !cgc.object, !cgc.object
    cgc.send %2 message 3 to [@c] via shm order 6
    cgc.send %3 message 4 to [@a] via shm order 7
  }
  cgc.program @c {
    %0 = cgc.recv message 3 from @b via shm order 8 : !cgc.object
    %1 = cgc.call @c::@fwd(%0) : !cgc.object
    cgc.send %1 message 5 to [@driver] via shm order 10
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @several_results level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.actor @c actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a to [@b] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @b to [@c] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @b to [@a] slots 10 slot_bytes 4096
  cgc.channel @c4 shm from @c to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c5 shm from @a to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c4 messages [5] order 10 : !cgc.object
    %2 = cgc.read @c5 messages [6] order 11 : !cgc.object
    cgc.output [%1, %2]
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1, %2 = cgc.call @a::@split(%0) : !cgc.object, !cgc.object
    cgc.write @c1(%1, %2) messages [1, 2] order 2
    %3 = cgc.read @c3 messages [4] order 7 : !cgc.object
    %4 = cgc.call @a::@fwd(%3) : !cgc.object
    cgc.write @c5(%4) messages [6] order 9
  }
  cgc.program @b {
    %0, %1 = cgc.read @c1 messages [1, 2] order 3 : !cgc.object, !cgc.object
    %2, %3 = cgc.call @b::@split(%0, %1) : !cgc.object, !cgc.object
    cgc.write @c2(%2) messages [3] order 4
    cgc.write @c3(%3) messages [4] order 5
  }
  cgc.program @c {
    %0 = cgc.read @c2 messages [3] order 6 : !cgc.object
    %1 = cgc.call @c::@fwd(%0) : !cgc.object
    cgc.write @c4(%1) messages [5] order 8
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of several_results (v2)  registers=3
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c4
//   3  r2 = read c5
//   4  output r1, r2
//
// program @a of several_results (v2)  registers=5
//   0  r0 = read c0
//   1  r1, r2 = call split(r0)    drop r0
//   2  write c1 r1, r2    drop r1, r2
//   3  r3 = read c3
//   4  r4 = call fwd(r3)    drop r3
//   5  write c5 r4    drop r4
//
// program @b of several_results (v2)  registers=4
//   0  r0, r1 = read c1
//   1  r2, r3 = call split(r0, r1)    drop r0, r1
//   2  write c2 r2    drop r2
//   3  write c3 r3    drop r3
//
// program @c of several_results (v2)  registers=2
//   0  r0 = read c2
//   1  r1 = call fwd(r0)    drop r0
//   2  write c4 r1    drop r1
