/**
 * FreeBSD guests whose disks, network, SCSI host and balloon are served here:
 * `deno task test:freebsd`. What they do is in `tests/guest/scenarios`, which
 * Linux guests do as well.
 */

import { RigError } from "../guest/rig/error.ts";
import {
  fetchImage,
  type FreeBsdSource,
  HOW_TO_GIVE,
  sourceFrom,
} from "../guest/rig/freebsd_source.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { Bench, type Mode } from "../guest/scenarios/bench.ts";
import { runScenarios } from "../guest/scenarios/context.ts";
import {
  machineFrom,
  type PreparedFreeBsd,
  prepareFreeBsd,
  rootDisk,
  startFreeBsd,
} from "../guest/scenarios/freebsd_guest.ts";
import { startLinux } from "../guest/scenarios/linux.ts";
import { SCENARIOS } from "../guest/scenarios/mod.ts";
import { vhostUserNet } from "../guest/network.ts";
import { LONG_VARIABLE, skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";

interface Found {
  readonly source: FreeBsdSource | null;
  readonly reason: string;
}

/** `deno task test:freebsd` sets this. */
const asked = Deno.env.get("VHOSTD_FREEBSD") === "1";

async function find(): Promise<Found> {
  if (!asked && Deno.env.get(LONG_VARIABLE) !== "1") {
    const reason = "takes long, run by `deno task test:freebsd`";
    return { source: null, reason };
  }
  const missing = await prepareOrReason(["qemu", "linux"]);
  if (missing !== null) return { source: null, reason: missing };
  const named = sourceFrom((name) => Deno.env.get(name));
  if (named !== null) return { source: named, reason: "" };
  if (!asked) {
    // An image is 700 MB: it is fetched for who asks for FreeBSD.
    const reason = `no FreeBSD guest: ${HOW_TO_GIVE}, or run ` +
      "`deno task test:freebsd`";
    return { source: null, reason };
  }
  try {
    const { path, reason } = await fetchImage({
      progress: (line) => console.log(line),
    });
    return path === null
      ? { source: null, reason: `no FreeBSD guest: ${reason}; ${HOW_TO_GIVE}` }
      : { source: { kind: "image", path }, reason: "" };
  } catch (error) {
    if (!(error instanceof RigError && error.kind === "platform")) throw error;
    return { source: null, reason: error.message };
  }
}

const { source, reason } = await find();
if (source === null) {
  if (asked) {
    console.log(`SKIP FreeBSD: ${reason}`);
  }
  skipUnless(false, reason).test("FreeBSD guests", () => {});
}
const directory = source === null ? null : TemporaryDirectory.make("freebsd");
let prepared: Promise<PreparedFreeBsd> | null = null;

async function run(
  test: Deno.TestContext,
  mode: Mode,
  on: "blk" | "scsi",
): Promise<void> {
  prepared ??= prepareFreeBsd(source!, directory!.path);
  const freebsd = await prepared;
  using copies = TemporaryDirectory.make("root");
  const root = await rootDisk(freebsd, copies);
  await using bench = await Bench.start({
    mode,
    root: root === null ? undefined : { path: root.path, on },
  });
  await using peer = await startLinux({
    devices: vhostUserNet(bench.socket("peer"), {
      mac: "52:54:00:0a:08:02",
      reconnect: 100,
    }),
    memory: 256,
  });
  const machine = machineFrom((name) => Deno.env.get(name));
  const start = () => startFreeBsd(freebsd, machine, bench, root);
  await runScenarios(test, { start, peer, bench }, SCENARIOS);
}

/** Declares the tests: nothing where there is no guest. */
function declare(): void {
  if (source === null) return;
  // A kernel that brings its own root file system has no root disk to serve.
  const ownRoot = source.kind === "kernel" && source.root === null;
  const needsRoot = skipUnless(
    !ownRoot,
    "FREEBSD_ROOT is not given: nothing to serve as root",
  );
  for (const on of ["blk", "scsi"] as const) {
    for (const mode of ["legacy", "modern"] as const) {
      const body = (test: Deno.TestContext) => run(test, mode, on);
      const name = `FreeBSD: root on ${on}, ${mode}`;
      if (on === "blk") Deno.test(name, body);
      else needsRoot.test(name, body);
    }
  }
  Deno.test("FreeBSD: what was unpacked is removed", () => {
    directory?.[Symbol.dispose]();
  });
}

declare();
