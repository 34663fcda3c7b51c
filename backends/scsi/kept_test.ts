import { assert, assertEquals } from "@std/assert";
import { imageTest } from "../storage/testing/engines.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";
import {
  type BenchOptions,
  lunField,
  ScsiBench,
  taskManagement,
} from "./testing/bench.ts";

const TUR = [0, 0, 0, 0, 0, 0];

imageTest(
  "the sizes that a driver chose are those of its requests after a crash",
  () => {
    const sizes = new Uint8Array(8);
    const view = new DataView(sizes.buffer);
    view.setUint32(0, 18, true);
    view.setUint32(4, 16, true);
    let kept: unknown;
    {
      using bench = new ScsiBench();
      bench.device.writeConfig(20, sizes);
      kept = bench.kept;
    }
    using bench = new ScsiBench({ kept: JSON.parse(JSON.stringify(kept)) });
    const { device } = bench;
    assertEquals([device.senseSize, device.cdbSize], [18, 16]);
    assertEquals(device.config.slice(20, 28), sizes);
    const answer = bench.run(TUR, { cdbSize: 16, senseSize: 18 });
    assertEquals(answer.sense, { key: 6, asc: 0x2900 });
    // A driver that starts anew knows nothing of that.
    device.reset();
    assertEquals(bench.kept, { cdbSize: 32, senseSize: 96, modes: [] });
  },
);

imageTest("mode parameters that a driver set outlive the process", () => {
  let kept: unknown;
  const run = (options: BenchOptions, test: (bench: ScsiBench) => void) => {
    using bench = new ScsiBench(options);
    bench.clearAttentions();
    test(bench);
    kept = JSON.parse(JSON.stringify(bench.kept ?? kept));
  };
  const WCE = [0x1a, 8, 8, 0, 24, 0];
  const writeCache = (bench: ScsiBench) =>
    bench.run(WCE, { room: 24 }).data[6] & 4;
  run({}, (bench) => {
    const out = new Uint8Array(24);
    out.set([0, 0, 0, 0, 0x08, 0x12]);
    assertEquals(writeCache(bench), 4);
    assertEquals(bench.run([0x15, 0x10, 0, 0, 24, 0], { out }).status, 0);
  });
  run({ kept }, (bench) => {
    // A driver that does not know of the new process does not flush.
    assertEquals(writeCache(bench), 0);
    // LOGICAL UNIT RESET: the driver does not look again.
    assertEquals([...bench.control(taskManagement(5, lunField(0, 0)))], [0]);
    assertEquals(writeCache(bench), 0);
  });
  run({ kept }, (bench) => {
    assertEquals(writeCache(bench), 0);
    // The session ends, and comes back.
    bench.device.reset();
    bench.clearAttentions();
    assertEquals(writeCache(bench), 0);
  });
  run({ kept }, (bench) => {
    assertEquals(writeCache(bench), 0);
    const out = new Uint8Array(24);
    out.set([0, 0, 0, 0, 0x08, 0x12, 4]);
    assertEquals(bench.run([0x15, 0x10, 0, 0, 24, 0], { out }).status, 0);
    bench.device.reset();
    bench.clearAttentions();
    assertEquals(writeCache(bench), 4);
  });
  run({ kept }, (bench) => assertEquals(writeCache(bench), 4));
});

ringTest(
  "MODE SELECT is answered when a successor would have the modes",
  () => {
    using bench = new ScsiBench();
    bench.clearAttentions();
    bench.keepsLate = true;
    const out = new Uint8Array(24);
    out.set([0, 0, 0, 0, 0x08, 0x12]);
    const select = [0x15, 0x10, 0, 0, 24, 0];
    const off = bench.send(select, { out });
    for (let i = 0; i < 3; i++) bench.turn();
    const { modes } = bench.kept as { modes: unknown[] };
    assertEquals([modes.length, bench.reap().size], [1, 0]);
    for (const kept of bench.keeping.splice(0)) kept();
    bench.turn();
    assertEquals(bench.reap().get(off)!.status, 0);
    // What changes nothing waits for nothing.
    assertEquals(bench.run(select, { out }).status, 0);
  },
);

Deno.test("a ring stops although nobody says that modes are kept", () => {
  using bench = new ScsiBench();
  bench.clearAttentions();
  bench.keepsLate = true;
  const out = new Uint8Array(24);
  out.set([0, 0, 0, 0, 0x08, 0x12]);
  const off = bench.send([0x15, 0x10, 0, 0, 24, 0], { out });
  bench.turn();
  const { device, queues } = bench;
  device.quiesce(queues[2]);
  const start = performance.now();
  while (queues[2].inFlight > 0) {
    assert(performance.now() - start < 20_000, "it waits for ever");
    device.poll();
  }
  bench.turn();
  assertEquals(bench.reap().get(off)!.status, 0);
});
