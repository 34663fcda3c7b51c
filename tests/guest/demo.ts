/**
 * `deno task demo`: boots a Linux guest against the disk that `deno task serve`
 * serves, and shows on the terminal what it does.
 *
 * A server that runs already is used; else one is started and stopped again. A
 * disk with contents that are not the demo's own is left alone.
 *
 * @module
 */

import { Spinner } from "@std/cli/unstable-spinner";
import { join } from "@std/path";
import { UnixSocket } from "../../sys/unix_socket.ts";
import {
  ChildProcess,
  ProcessError,
  waitForListener,
} from "../support/process.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { vhostUserBlk } from "./disks.ts";
import { cacheDirectory } from "./rig/cache.ts";
import { RigError } from "./rig/error.ts";
import { runLinuxGuest } from "./rig/linux_guest.ts";
import { prepare } from "./rig/prepare.ts";
import { findQemu } from "./rig/qemu.ts";

const SOCKET = "./vhostd-data/blk.sock";
const LABEL = "vhostd-demo";

/** What the guest prints as `STEP text` and `DONE text` becomes progress. */
const SCRIPT = `
  [ -b /dev/vda ] || fail "there is no disk"
  echo "DONE the guest finds the disk: $(($(cat /sys/block/vda/size) / 2048)) MiB, $(uname -sr)"
  label=$(dd if=/dev/vda bs=1 skip=1144 count=16 2>/dev/null | tr -d '\\0')
  start=$(dd if=/dev/vda bs=64K count=1 2>/dev/null | tr -d '\\0' | wc -c)
  if [ "$label" != ${LABEL} ] && [ "$start" != 0 ]; then
    fail "the disk has contents that are not the demo's, and they are not touched: run it in another directory, or remove ./vhostd-data/disk.img"
  fi
  echo "STEP making a file system"
  mkfs.ext4 -q -F -L ${LABEL} /dev/vda
  mount /dev/vda /mnt
  echo "DONE ext4 file system made and mounted"
  echo "STEP writing 64 MiB"
  dd if=/dev/urandom of=/tmp/piece bs=1M count=8 2>/dev/null
  for i in 1 2 3 4 5 6 7 8; do cat /tmp/piece; done > /tmp/data
  from=$(cut -d' ' -f1 /proc/uptime)
  dd if=/tmp/data of=/mnt/data bs=1M conv=fsync 2>/dev/null
  to=$(cut -d' ' -f1 /proc/uptime)
  echo "DONE 64 MiB written and flushed in $(echo "$from $to" | awk '{ printf "%.1f", $2 - $1 }') s"
  echo "STEP verifying"
  umount /mnt
  echo 3 > /proc/sys/vm/drop_caches
  mount /dev/vda /mnt
  cmp /tmp/data /mnt/data || fail "what was read is not what was written"
  echo "DONE read back and verified"
  rm /mnt/data
  fstrim /mnt
  umount /mnt
  e2fsck -fn /dev/vda > /dev/null 2>&1 || fail "the file system is damaged"
  echo "DONE file system checked, space given back"
  echo "STEP powering off"
`;

/** Progress on a terminal, or line by line where there is none. */
class Progress implements Disposable {
  #spinner: Spinner | null = null;
  readonly #terminal = Deno.stdout.isTerminal();

  /** Something begins. */
  step(text: string): void {
    this.#stop();
    if (!this.#terminal) return console.log(`  … ${text}`);
    this.#spinner = new Spinner({ message: text });
    this.#spinner.start();
  }

  /** Something is done. */
  done(text: string): void {
    this.#stop();
    console.log(`  ✓ ${text}`);
  }

  #stop(): void {
    this.#spinner?.stop();
    this.#spinner = null;
  }

  [Symbol.dispose](): void {
    this.#stop();
  }
}

/** A server for the disk, unless one listens already. */
async function startServer(): Promise<ChildProcess | null> {
  try {
    UnixSocket.connect(SOCKET).close();
    return null;
  } catch {
    // Nobody listens.
  }
  const server = ChildProcess.start(Deno.execPath(), {
    name: "vhostd",
    args: [...COMMAND_ARGUMENTS, "serve"],
  });
  try {
    await waitForListener(SOCKET, server);
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function demo(progress: Progress): Promise<void> {
  const begin = performance.now();
  progress.step("looking for QEMU and the guest");
  let downloads = false;
  await prepare(["qemu", "linux"], (line) => {
    if (!downloads) {
      progress.done(
        `the first time, QEMU and Linux are fetched from Debian's packages into ${cacheDirectory()}`,
      );
    }
    downloads = true;
    progress.step(line);
  });
  const { version } = await findQemu();
  progress.done(`QEMU ${version} and the guest are there`);
  await using server = await startServer();
  progress.done(
    server === null
      ? `using the server on ${SOCKET}`
      : `serving ./vhostd-data/disk.img on ${SOCKET}`,
  );
  progress.step("booting Linux");
  await runLinuxGuest({
    memory: 384,
    devices: vhostUserBlk(join(Deno.cwd(), SOCKET)),
    script: SCRIPT,
    onLine: (line) => {
      const [word, ...rest] = line.split(" ");
      if (word === "STEP") progress.step(rest.join(" "));
      if (word === "DONE") progress.done(rest.join(" "));
    },
  });
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  progress.done(`the guest powered off; ${seconds} s in all`);
}

if (import.meta.main) {
  using progress = new Progress();
  try {
    await demo(progress);
  } catch (error) {
    if (!(error instanceof RigError || error instanceof ProcessError)) {
      throw error;
    }
    progress[Symbol.dispose]();
    const failure = /@@FAIL (.*)/.exec(error.message);
    console.error(
      failure === null ? error.message : `Cannot go on: ${failure[1]}`,
    );
    Deno.exit(1);
  }
}
