/**
 * A program that starts a child, and prints how it ended.
 *
 * @module
 */

import { Reactor } from "../reactor.ts";
import { SpawnedProcess } from "../spawn.ts";

if (import.meta.main) {
  using reactor = new Reactor();
  using child = SpawnedProcess.start("/bin/sh", ["sh", "-c", "exit 3"], []);
  await reactor.readable(child.fd);
  console.log(JSON.stringify(child.reap()));
}
