import { assertEquals, assertThrows } from "@std/assert";
import { BalloonTargetError, parseTarget } from "./target.ts";
import { BalloonBench } from "./testing/bench.ts";

const M = 2 ** 20, G = 2 ** 30;

Deno.test("a target is a size, a share, or a change", () => {
  for (
    const [value, wanted] of [
      ["1G", G],
      ["1g", G],
      ["512M", 512 * M],
      ["1.5G", 1.5 * G],
      ["1048576", M],
      [1048576, M],
      [" 2G ", 2 * G],
      ["50%", 2 * G],
      ["100%", 4 * G],
      ["-25%", 2 * G],
      ["+25%", 4 * G],
      ["-512M", 2.5 * G],
      ["+512M", 3.5 * G],
      ["+9T", 4 * G],
      ["-0", 3 * G],
    ] as const
  ) assertEquals(parseTarget(value, 4 * G, 3 * G), wanted, String(value));
});

Deno.test("what is no target, too little or too much is refused", () => {
  for (
    const [value, reason] of [
      ["", "give a size (1G), a share of its memory (50%), or a change"],
      ["1X", "give a size"],
      ["%", "give a size"],
      ["1e9", "give a size"],
      ["--1G", "give a size"],
      [NaN, "give a size"],
      [null, "give a size"],
      [undefined, "give a size"],
      [{}, "give a size"],
      ["0", "nothing would be left"],
      ["0%", "nothing would be left"],
      ["-3G", "nothing would be left"],
      ["-200%", "nothing would be left"],
      ["5G", "it has 4294967296 bytes"],
      ["101%", "it has 4294967296 bytes"],
    ] as const
  ) {
    const error = assertThrows(
      () => parseTarget(value, 4 * G, 3 * G),
      BalloonTargetError,
      `Cannot set the guest's memory to "${String(value)}": ${reason}`,
    );
    assertEquals(error.kind, "usage");
  }
});

Deno.test("balloon-set asks for the pages that are too many", () => {
  // 4 MiB for the balloon, and 4 MiB with the rings.
  using bench = new BalloonBench();
  const { device } = bench;
  const set = (size: unknown) =>
    device.command("balloon-set", { size }) as Record<string, unknown>;
  assertEquals(set("6M").target, 2 * M);
  assertEquals(new Uint32Array(device.config.buffer)[0], 512);
  assertEquals([set("-25%").target, bench.configChanges], [4 * M, 2]);
  assertEquals([set("4M").guestTarget, bench.configChanges], [4 * M, 2]);
  assertEquals(set("+100%").target, 0);
  assertThrows(() => set("0"), BalloonTargetError);
  assertThrows(() => device.command("balloon-set"), BalloonTargetError);
  assertThrows(
    () => device.command("burst"),
    Error,
    'Cannot do "burst": a balloon has the commands balloon-set',
  );
});

Deno.test("progress is how far the driver came since the target was set", () => {
  using bench = new BalloonBench();
  const { device } = bench;
  const actual = (pages: number): unknown => {
    bench.writeConfig(4, new Uint8Array(Uint32Array.of(pages).buffer));
    return device.status().progress;
  };
  assertEquals(device.status().progress, 1);
  device.command("balloon-set", { size: "4M" });
  assertEquals(device.status().progress, 0);
  assertEquals([256, 512, 1024, 1025].map(actual), [0.25, 0.5, 1, 1]);
  actual(1024);
  device.command("balloon-set", { size: "6M" });
  assertEquals([1024, 768, 512, 2000].map(actual), [0, 0.5, 1, 0]);
});

Deno.test("there is no target without a guest", () => {
  using bench = new BalloonBench({ regions: [] });
  for (const { guestAddress, size } of bench.memory.regions) {
    bench.memory.remove(guestAddress, size);
  }
  assertThrows(
    () => bench.device.command("balloon-set", { size: "1G" }),
    BalloonTargetError,
    `"1G": no guest is connected`,
  );
});
