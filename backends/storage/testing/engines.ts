/**
 * The engines that tests run over. A new engine is one more line here.
 *
 * @module
 */

import { TemporaryDirectory } from "../../../tests/support/temporary_directory.ts";
import { StorageError } from "../error.ts";
import { IoUring } from "../../../sys/io_uring/io_uring.ts";
import { openStorage } from "../open.ts";
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
 * Registers tests for each engine. Where one cannot run, says so and registers
 * a test that is ignored.
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
