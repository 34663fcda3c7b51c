/**
 * A program whose threads all replace the same stale socket file at once.
 * Prints, for each round, what each of them got.
 *
 * @module
 */

import { OwnedFd } from "../fd.ts";
import { libc } from "../libc.ts";
import { encodeAddress } from "../sockaddr.ts";
import { nextMessage } from "./within.ts";

const [path, threads, rounds] = Deno.args;
const url = new URL("./listening_worker.ts", import.meta.url);
const workers = Array.from(
  { length: Number(threads) },
  () => new Worker(url, { type: "module" }),
);
const all = (message: string): Promise<unknown[]> =>
  Promise.all(workers.map((worker) => {
    worker.postMessage(message);
    return nextMessage(worker);
  }));

await Promise.all(workers.map(nextMessage));
for (let round = 0; round < Number(rounds); round++) {
  const address = encodeAddress(path);
  const AF_UNIX = 1, SOCK_STREAM = 1, SOCK_CLOEXEC = 0o2000000;
  const fd = libc().socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  using stale = new OwnedFd(fd);
  if (libc().bind(stale.fd, address, address.length) < 0) Deno.exit(1);
  stale.close();
  const results = await all(path);
  console.log(results.sort().join(" "));
  await all("close");
}
Deno.exit(0);
