// ----- import
cgc.graph @constants_and_keywords level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@scale(%0, 2, 0.5, "text", none, true, factor=opaque<0, "list of 2">) : !cgc.object
    %2 = cgc.call @b::@join(3, left=%1, right=%0, name="é") : !cgc.object
    cgc.output %2
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @constants_and_keywords level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1, %2 = cgc.transfer %0 from @driver to [@a, @b] via shm reason "same node" : !cgc.object, !cgc.object
    %3 = cgc.call @a::@scale(%1, 2, 0.5, "text", none, true, factor=opaque<0, "list of 2">) : !cgc.object
    %4 = cgc.transfer %3 from @a to [@b] via shm reason "same node" : !cgc.object
    %5 = cgc.call @b::@join(3, left=%4, right=%2, name="é") : !cgc.object
    %6 = cgc.transfer %5 from @b to [@driver] via shm reason "same node" : !cgc.object
    cgc.output %6
  }
}

// ----- after pair-comm
cgc.graph @constants_and_keywords level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a, @b] via shm order 0
    %1 = cgc.recv message 2 from @b via shm order 6 : !cgc.object
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@scale(%0, 2, 0.5, "text", none, true, factor=opaque<0, "list of 2">) : !cgc.object
    cgc.send %1 message 1 to [@b] via shm order 3
  }
  cgc.program @b {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.recv message 1 from @a via shm order 4 : !cgc.object
    %2 = cgc.call @b::@join(3, left=%1, right=%0, name="é") : !cgc.object
    cgc.send %2 message 2 to [@driver] via shm order 5
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @constants_and_keywords level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a, @b] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a to [@b] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c2 messages [2] order 6 : !cgc.object
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@scale(%0, 2, 0.5, "text", none, true, factor=opaque<0, "list of 2">) : !cgc.object
    cgc.write @c1(%1) messages [1] order 3
  }
  cgc.program @b {
    %0 = cgc.read @c0 messages [0] order 2 : !cgc.object
    %1 = cgc.read @c1 messages [1] order 4 : !cgc.object
    %2 = cgc.call @b::@join(3, left=%1, right=%0, name="é") : !cgc.object
    cgc.write @c2(%2) messages [2] order 5
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of constants_and_keywords (v2)  registers=2
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c2
//   3  output r1
//
// program @a of constants_and_keywords (v2)  registers=2
//   0  r0 = read c0
//   1  r1 = call scale(r0, 2, 0.5, 'text', None, True, factor=[1, 2])    drop r0
//   2  write c1 r1    drop r1
//
// program @b of constants_and_keywords (v2)  registers=3
//   0  r0 = read c0
//   1  r1 = read c1
//   2  r2 = call join(3, left=r1, right=r0, name='é')    drop r0, r1
//   3  write c2 r2    drop r2
