/**
 * Fills a tiny file system through a storage; run as a process of its own.
 *
 * @module
 */

import { openStorage } from "../open.ts";
import {
  STORAGE_DISCARD,
  STORAGE_READ,
  STORAGE_WRITE,
  STORAGE_WRITE_ZEROES,
} from "../storage.ts";
import { TestBuffers } from "./buffers.ts";
import { StorageRunner } from "./engine_suite.ts";

const KIBIBYTE = 1024;

function main(directory: string): void {
  const path = `${directory}/disk.img`;
  Deno.writeFileSync(path, new Uint8Array());
  Deno.truncateSync(path, 1024 * KIBIBYTE);
  using buffers = new TestBuffers(256 * KIBIBYTE);
  const storage = openStorage({ path });
  const runner = new StorageRunner(storage);
  const transfer = (operation: 0 | 1, at: number, length: number) => {
    buffers.scatter([[0, length]]);
    return runner.run(operation, at, length, buffers.iovecs, 1);
  };
  const first = transfer(STORAGE_WRITE, 0, 200 * KIBIBYTE);
  const second = transfer(STORAGE_WRITE, 512 * KIBIBYTE, 128 * KIBIBYTE);
  const full = transfer(STORAGE_WRITE, 768 * KIBIBYTE, 64 * KIBIBYTE);
  const readable = transfer(STORAGE_READ, 0, 200 * KIBIBYTE);
  const zeroes = runner.run(
    STORAGE_WRITE_ZEROES,
    768 * KIBIBYTE,
    128 * KIBIBYTE,
  );
  const discard = runner.run(STORAGE_DISCARD, 0, 200 * KIBIBYTE);
  const again = transfer(STORAGE_WRITE, 0, 64 * KIBIBYTE);
  storage.close();
  console.log(JSON.stringify({
    writes: [first, second],
    full,
    readable,
    zeroes,
    discard,
    again,
  }));
}

main(Deno.args[0]);
