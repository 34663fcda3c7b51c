import { assert, assertEquals } from "@std/assert";
import { findProgram } from "../../sys/environment.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess } from "../support/process.ts";
import { type Requirement, skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { CrashGuest } from "./crash.ts";
import { isGone, LIMIT, Server } from "./server.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** Requests in flight: all that the ring of a {@linkcode CrashGuest} has room for. */
const DEPTH = 128;
const SECTORS = 2048;
/** Stops of each kind; the machine may be busy with something else at one. */
const STOPS = 3;
/** How long (ms) the quickest of them may take. */
const BOUND = 1_000;

/** Kinds of disks that end under load. */
const KINDS: readonly [keys: string, requirement: Requirement][] = [
  ["engine=sync,wce=off", skipUnless(true, "")],
  [
    "engine=io_uring,direct=on",
    skipUnless(IoUring.supported(), "io_uring is not available"),
  ],
];

for (const [keys, requirement] of KINDS) {
  for (const supervise of ["on", "off"]) {
    const what = `${keys}, --supervise=${supervise}`;
    requirement.test(
      `SIGTERM with ${DEPTH} requests in flight: it drains within a second: ${what}`,
      async () => console.log(await stopsUnderLoad(keys, supervise)),
    );
  }
}

/**
 * Stops one server after the other, each under the load of the same guest.
 *
 * @returns what there is to tell of the stops
 */
async function stopsUnderLoad(
  keys: string,
  supervise: string,
): Promise<string> {
  using directory = TemporaryDirectory.make("stop");
  const start = () =>
    Server.start({
      disks: { a: keys },
      args: [`--supervise=${supervise}`],
      sectors: SECTORS,
      directory,
    });
  using guest = new CrashGuest({ depth: DEPTH, sectors: SECTORS, seed: 11 });
  const times: number[] = [];
  const taken: number[] = [];
  for (let i = 0; i < STOPS; i++) {
    await using server = await start();
    await guest.connect(server.socket("a"));
    const goal = guest.answered + 4 * DEPTH;
    const limit = performance.now() + LIMIT;
    await guest.run(() => {
      assert(performance.now() < limit, "no load with requests in flight");
      const inFlight = guest.trackedRequests;
      if (guest.answered < goal || inFlight === 0) return false;
      taken.push(inFlight);
      return true;
    });
    server.child.signal("SIGTERM");
    const signalled = performance.now();
    // The guest submits more all the time.
    await guest.run(() => {
      assert(performance.now() < signalled + LIMIT, "it does not end");
      return server.child.ended;
    });
    times.push(performance.now() - signalled);
    await server.ended();
    assertEquals(guest.trackedRequests, 0, "requests taken and not answered");
    // Nothing is done but what was answered, and all of that is done.
    guest.settle();
    guest.check(server.image("a"));
    assertEquals(server.sockets(), []);
  }
  await using successor = await start();
  await guest.connect(successor.socket("a"));
  await guest.finish();
  await guest.leave();
  guest.check(successor.image("a"));
  const told = times.map((ms) => ms.toFixed(0)).join(", ");
  assert(Math.min(...times) < BOUND, `the stops took ${told} ms`);
  return `stopped in ${told} ms, ${
    taken.join(", ")
  } requests being served at the signal; ${guest.answered} answered`;
}

Deno.test("a second signal ends everything at once, also what hangs", async () => {
  await using server = await Server.start({ disks: { a: "", b: "" } });
  const pids = [await server.pid("a"), await server.pid("b")];
  // It cannot drain, and cannot even be asked to.
  Deno.kill(pids[0], "SIGSTOP");
  server.child.signal("SIGTERM");
  await server.child.expect("Stopping: SIGTERM", LIMIT);
  assertEquals(server.child.ended, false);
  server.child.signal("SIGINT");
  await server.ended(130);
  // Nothing waits for what SIGKILL ends: it is a matter of moments.
  await waitUntil(() => pids.every(isGone), { what: "their end" });
  assertEquals(server.sockets(), []);
});

const terminals = skipUnless(
  findProgram("script") !== null,
  "there is no script(1), which makes terminals",
);

for (const nohup of [false, true]) {
  const what = nohup ? "goes on under nohup" : "stops cleanly";
  terminals.test(`a server ${what} when its terminal is closed`, async () => {
    using directory = TemporaryDirectory.make("stop");
    const socket = directory.file("blk.sock");
    Deno.writeFileSync(directory.file("disk.img"), new Uint8Array(4096));
    const command = [
      ...(nohup ? ["nohup"] : []),
      Deno.execPath(),
      ...COMMAND_ARGUMENTS,
      ...["serve", "--management=off"],
      `--blk=path=${directory.file("disk.img")},socket=${socket}`,
    ].join(" ");
    await using terminal = ChildProcess.start("script", {
      name: "script",
      cwd: directory.path,
      args: ["-qefc", `echo $$ && exec ${command}`, "/dev/null"],
    });
    await terminal.expect(/Stop with Ctrl-C|nohup/, 60_000, "stdout");
    await waitUntil(() => isListening(socket), { what: "the server" });
    const pid = Number(/^(\d+)\r?\n/.exec(terminal.stdout.text)![1]);
    Deno.kill(terminal.pid, "SIGKILL");
    await terminal.status;
    if (!nohup) {
      await waitUntil(() => isGone(pid), { what: "its end", timeout: LIMIT });
      assertEquals([...Deno.readDirSync(directory.path)].length, 1);
      return;
    }
    Deno.kill(pid, "SIGHUP");
    await waitUntil(
      () => Deno.readTextFileSync(directory.file("nohup.out")).includes("HUP"),
      { what: "the signal in the log" },
    );
    assertEquals(isListening(socket), true);
    Deno.kill(pid, "SIGTERM");
    await waitUntil(() => isGone(pid), { what: "its end", timeout: LIMIT });
  });
}

function isListening(socket: string): boolean {
  try {
    UnixSocket.connect(socket).close();
    return true;
  } catch {
    return false;
  }
}

/** How people start the server, and with it who passes signals on. */
const WAYS: readonly (readonly string[])[] = [
  [Deno.execPath(), "task", "serve"],
  ["npx", "-y", `deno@${Deno.version.deno}`, "task", "serve"],
];

for (const way of WAYS) {
  const name = way[0] === "npx" ? way.slice(0, 4).join(" ") : "deno task";
  for (const to of ["the process", "its process group"] as const) {
    Deno.test(`a signal to ${to} of ${name} stops the server cleanly`, async () => {
      using directory = TemporaryDirectory.make("stop");
      const image = directory.file("disk.img");
      const socket = directory.file("blk.sock");
      Deno.writeFileSync(image, new Uint8Array(4096));
      await using child = ChildProcess.start("setsid", {
        name,
        cwd: ROOT,
        args: [
          ...way,
          "--management=off",
          `--blk=path=${image},socket=${socket}`,
        ],
      });
      await child.expect("Stop with Ctrl-C", 60_000, "stdout");
      const group = to === "the process" ? child.pid : -child.pid;
      Deno.kill(group, group < 0 ? "SIGINT" : "SIGTERM");
      assertEquals((await child.wait(LIMIT)).code, 0, child.stderr.text);
      assertEquals([...Deno.readDirSync(directory.path)].length, 1);
    });
  }
}
