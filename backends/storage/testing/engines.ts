/**
 * The engines that tests run over. A new engine is one more line here.
 *
 * @module
 */

import { TemporaryDirectory } from "../../../tests/support/temporary_directory.ts";
import { StorageError } from "../error.ts";
import { IoUring } from "../../../sys/io_uring/io_uring.ts";
import { openStorage } from "../open.ts";
import { ringTest } from "../../../virtqueue/testing/ring_profile.ts";
import { TestRing } from "./test_ring.ts";

/** How to open a storage; a part of the options of storages and devices alike. */
export interface EngineOptions {
  /** The engine. */
  readonly engine: string;
  /** Bypass the page cache. */
  readonly direct: boolean;
}

const TESTED: readonly (readonly [string, EngineOptions])[] = [
  ["sync", { engine: "sync", direct: false }],
  ["sync, direct", { engine: "sync", direct: true }],
  ["io_uring", { engine: "io_uring", direct: false }],
  ["io_uring, direct", { engine: "io_uring", direct: true }],
  ["auto", { engine: "auto", direct: false }],
];

/** Why an engine cannot run on temporary files here, or `null`. */
function obstacleTo(options: EngineOptions): string | null {
  if (options.engine === "io_uring" && !IoUring.supported()) {
    return `there is no io_uring here (${IoUring.refusal()!.message})`;
  }
  using directory = TemporaryDirectory.make("engine");
  using ring = new TestRing();
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(4096));
  try {
    const storage = openStorage({ path, ...options }, ring.get);
    try {
      if (storage.canDiscard) return null;
      return "the temporary directory's file system punches no holes";
    } finally {
      storage.close();
    }
  } catch (error) {
    if (error instanceof StorageError && error.kind === "direct") {
      return "the temporary directory's file system has no direct I/O";
    }
    throw error;
  }
}

/**
 * Registers tests for each engine that opens an image. Where one cannot run, says
 * so and registers a test that is ignored.
 */
export function forEachEngine(
  register: (name: string, options: EngineOptions) => void,
): void {
  for (const [name, options] of TESTED) {
    const obstacle = obstacleTo(options);
    if (obstacle === null) {
      register(name, options);
    } else {
      console.log(`skipped: ${name}: ${obstacle}`);
      Deno.test({ name: `${name}: ${obstacle}`, ignore: true, fn() {} });
    }
  }
}

/** The engines of an image that must not differ for a device. */
export const IMAGE_ENGINES: readonly string[] = ["sync", "io_uring"];
/** The same, and the disk in memory of block devices. */
export const DISK_ENGINES: readonly string[] = [...IMAGE_ENGINES, "memory"];
/** All that there is. */
export const ALL_ENGINES: readonly string[] = [
  ...TESTED.map(([name]) => name),
  "memory",
];

let current = "auto";

/** The engine of the test that runs: outside of `storageTest` "auto". */
export function testedEngine(): string {
  return current;
}

/** Options of a storage for the engine of the test that runs. */
export function engineOptions(): Partial<EngineOptions> {
  return TESTED.find(([name]) => name === current)?.[1] ?? {};
}

const obstacles = new Map<string, string | null>([["memory", null]]);

/** Registers a test for each of the engines on each of the rings that there are. */
export function storageTest(
  name: string,
  fn: () => void | Promise<void>,
  engines: readonly string[] = DISK_ENGINES,
): void {
  for (const engine of engines) {
    let obstacle = obstacles.get(engine);
    if (obstacle === undefined) {
      obstacle = obstacleTo(TESTED.find(([name]) => name === engine)![1]);
      obstacles.set(engine, obstacle);
      if (obstacle !== null) console.log(`skipped: ${engine}: ${obstacle}`);
    }
    if (obstacle !== null) {
      Deno.test({ name: `${engine}: ${name}`, ignore: true, fn() {} });
      continue;
    }
    ringTest(`${engine}: ${name}`, async () => {
      current = engine;
      try {
        await fn();
      } finally {
        current = "auto";
      }
    });
  }
}

/** The same for devices that have no disk in memory, and tests of images. */
export function imageTest(name: string, fn: () => void | Promise<void>): void {
  storageTest(name, fn, IMAGE_ENGINES);
}
