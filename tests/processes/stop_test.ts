import { assert, assertEquals } from "@std/assert";
import { findProgram } from "../../sys/environment.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { Guest, SECTOR, T_OUT } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { stamp } from "./load.ts";
import { isGone, LIMIT, Server } from "./server.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const DEPTH = 128;
/** Far more than a stop takes: what is shown is that there is a bound. */
const BOUND = 10_000;

Deno.test("SIGTERM under load: the end is soon, and what was signalled is done", async () => {
  const sectors = 65_536;
  await using server = await Server.start({ disks: { a: "", b: "" }, sectors });
  const guests: Guest[] = [];
  for (const name of ["a", "b"]) {
    const guest = await Guest.run(server.socket(name), {
      size: 256,
      memory: 16 << 20,
    });
    guests.push(guest);
  }
  /** Sectors whose write was signalled as done, for each guest. */
  const done = guests.map(() => [] as number[]);
  const submitted = guests.map(() => 0);
  const flights = guests.map(() => new Map<number, number>());
  const submit = (i: number): void => {
    // Each sector is written once: what is in the file tells which writes were.
    const sector = submitted[i]++;
    const data = stamp(sector, i + 1);
    flights[i].set(guests[i].submit(T_OUT, sector, data), sector);
  };
  const reap = (i: number): number => {
    const completions = guests[i].drivers[0].reap();
    for (const { token, data } of completions) {
      assertEquals([...data], [0]);
      done[i].push(flights[i].get(token)!);
      flights[i].delete(token);
    }
    return completions.length;
  };
  let stopped = 0;
  for (const i of guests.keys()) for (let n = 0; n < DEPTH; n++) submit(i);
  while (!server.child.ended) {
    for (const i of guests.keys()) {
      for (let n = reap(i); n > 0 && submitted[i] < sectors; n--) submit(i);
    }
    if (stopped === 0 && done.every(({ length }) => length > 4 * DEPTH)) {
      server.child.signal("SIGTERM");
      stopped = performance.now();
    }
    await new Promise((resolve) => setTimeout(resolve));
  }
  const took = performance.now() - stopped;
  await server.ended();
  assert(took < BOUND, `${took} ms`);
  for (const [i, guest] of guests.entries()) {
    reap(i);
    const image = Deno.readFileSync(server.image("ab"[i]));
    for (const sector of done[i]) {
      const written = image.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      assertEquals(written, stamp(sector, i + 1), `sector ${sector}`);
    }
    // What was still in flight is wholly done or not at all.
    for (const sector of flights[i].values()) {
      const written = image.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      if (written.some((byte) => byte !== 0)) {
        assertEquals(written, stamp(sector, i + 1), `sector ${sector}`);
      }
    }
    guest[Symbol.dispose]();
  }
  assertEquals(server.sockets(), []);
});

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
