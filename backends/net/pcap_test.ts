import { assert, assertEquals, assertThrows } from "@std/assert";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { NetBackendError } from "./error.ts";
import { NetBench } from "./testing/bench.ts";
import { ALICE, BOB, packet, partialHeader } from "./testing/packets.ts";
import { readCapture } from "./testing/pcapng.ts";

function file(path: string): string | null {
  try {
    return Deno.statSync(path).isFile ? "file" : "other";
  } catch {
    return null;
  }
}

Deno.test("both directions are captured, in order and whole", () => {
  using directory = TemporaryDirectory.make("pcap");
  const pcap = directory.file("net.pcapng");
  const before = Date.now() * 1000 - 1000;
  const sizes = [0, 1, 2, 3, 1446, 60000];
  {
    using bench = new NetBench({ backend: "echo", pcap });
    for (const payload of sizes) {
      bench.fill(50);
      bench.run();
      const made = packet({ payload });
      bench.send(made.bytes, partialHeader(made));
      assertEquals(bench.received().length, 1);
      bench.drivers.get(0)!.reap();
      // What was captured is there at the end of a turn.
      bench.stop(0);
      bench.start(0);
    }
    assertEquals(readCapture(pcap).length, 2 * sizes.length);
    const { capture } = bench.device.status();
    assertEquals(capture, {
      path: pcap,
      running: true,
      frames: 2 * sizes.length,
      files: 1,
    });
  }
  const packets = readCapture(pcap);
  const times = packets.map(({ time }) => time);
  assertEquals(times, times.toSorted((a, b) => a - b));
  assert(times[0] > before && times.at(-1)! < (Date.now() + 1000) * 1000);
  sizes.forEach((payload, i) => {
    const answer = packets[2 * i], sent = packets[2 * i + 1];
    const pair = answer.flags === 2 ? [answer, sent] : [sent, answer];
    assertEquals(pair.map(({ flags }) => flags), [2, 1]);
    assertEquals(pair[0].bytes, packet({ payload }).bytes);
    assertEquals(
      pair[1].bytes,
      packet({ payload, to: ALICE, from: BOB }).bytes,
    );
  });
});

Deno.test("a file that reached its size is replaced, one before it is kept", () => {
  using directory = TemporaryDirectory.make("pcap");
  const pcap = directory.file("net.pcapng");
  using bench = new NetBench({ backend: "echo", pcap, pcapSize: 65536 });
  const bytes = packet({ payload: 30000 }).bytes;
  const state = () => [
    readCapture(pcap).length,
    file(`${pcap}.1`) === null ? null : readCapture(`${pcap}.1`).length,
  ];
  const seen: (number | null)[][] = [];
  for (let i = 0; i < 7; i++) {
    bench.send(bytes);
    seen.push(state());
  }
  // Each frame is captured on its way out and on its way back.
  assertEquals(seen, [
    [2, null],
    ...[[0, 4], [2, 4], [0, 4], [2, 4], [0, 4], [2, 4]],
  ]);
});

Deno.test("a capture that cannot be written is refused, or ends", () => {
  const error = assertThrows(
    () => new NetBench({ backend: "echo", pcap: "/nowhere/net.pcapng" }),
    NetBackendError,
    'Cannot write "/nowhere/net.pcapng"',
  );
  assertEquals(error.kind, "capture");
  using directory = TemporaryDirectory.make("pcap");
  const pcap = directory.file("net.pcapng");
  using bench = new NetBench({ backend: "echo", pcap, pcapSize: 65536 });
  // The next file cannot be begun: its directory is gone.
  Deno.removeSync(directory.path, { recursive: true });
  bench.fill(4);
  bench.run();
  for (let i = 0; i < 4; i++) bench.send(packet({ payload: 30000 }).bytes);
  assertEquals(bench.log.length, 1);
  assert(bench.log[0].startsWith(`error: The capture in "${pcap}" ends: `));
  assertEquals(bench.count("txFrames"), 4);
  Deno.mkdirSync(directory.path);
});

Deno.test("a capture changes nothing about how many frames a turn takes", () => {
  using directory = TemporaryDirectory.make("pcap");
  const pcap = directory.file("net.pcapng");
  const turns = [{}, { pcap }].map((capture) => {
    using bench = new NetBench({ backend: "switch", name: "turn", ...capture });
    return bench.device.chainsPerTurn;
  });
  assertEquals(turns, [32, 32]);
});
