import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { dupFd, isCloexec, setCloexec } from "../../sys/fd.ts";
import { Reactor } from "../../sys/reactor.ts";
import { UnixListener, UnixSocket } from "../../sys/unix_socket.ts";
import { waitUntil, withDeadline } from "../../tests/support/deadline.ts";
import { assertNoLeaks } from "../../tests/support/leaks.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import type { DeviceSpec } from "../device_host.ts";
import { HostError } from "../error.ts";
import { Logger } from "../log.ts";
import { RemoteError } from "./control_channel.ts";
import {
  type SupervisedSpec,
  Supervisor,
  type SupervisorOptions,
} from "./supervisor.ts";

const MODULE = new URL("./testing/crashing_device.ts", import.meta.url).href;
const LIMIT = 20_000;

/** What the tests look at in a status. */
interface Facts {
  readonly state: string;
  readonly process: string | null;
  readonly pid: number;
  readonly rss: number | null;
  readonly restarts: number;
  readonly lastExit: string | null;
  readonly problem: string | null;
  readonly connected: boolean;
  readonly connections: number;
}

/** A supervisor in this process, with its log. */
class Bench implements AsyncDisposable {
  readonly directory = TemporaryDirectory.make("sup");
  readonly reactor = new Reactor();
  readonly lines: string[] = [];
  supervisor!: Supervisor;

  open(
    specs: readonly SupervisedSpec[],
    options?: SupervisorOptions,
  ): Supervisor {
    const log = new Logger({ write: (line) => void this.lines.push(line) });
    this.supervisor = new Supervisor(specs, log, this.reactor, options);
    return this.supervisor;
  }

  async start(
    specs: readonly SupervisedSpec[],
    options?: SupervisorOptions,
  ): Promise<Supervisor> {
    const supervisor = this.open(specs, options);
    await withDeadline(supervisor.start(), LIMIT, "the start");
    return supervisor;
  }

  /** A device that listens on `NAME.sock`. */
  device(
    name: string,
    more: Partial<DeviceSpec> & { process?: string } = {},
  ): SupervisedSpec {
    const { process = null, ...rest } = more;
    const socket = rest.fd === undefined
      ? this.directory.file(`${name}.sock`)
      : undefined;
    const options = { refuse: this.directory.file(`${name}.refuse`) };
    const spec = { name, type: "crash", module: MODULE, options, socket };
    return { spec: { ...spec, ...rest }, process };
  }

  async facts(name: string): Promise<Facts> {
    const device = this.supervisor.devices.find((each) => each.name === name)!;
    return await device.status() as unknown as Facts;
  }

  command(name: string, command: string): Promise<unknown> {
    const device = this.supervisor.devices.find((each) => each.name === name)!;
    return device.command(command, {});
  }

  /** Waits until a device is in a state, and that often started again. */
  async until(name: string, state: string, restarts = 0): Promise<Facts> {
    await waitUntil(async () => {
      const facts = await this.facts(name);
      return facts.state === state && facts.restarts >= restarts;
    }, { what: `"${name}" to be ${state}`, timeout: LIMIT });
    return await this.facts(name);
  }

  /** The log lines with that text. */
  logged(text: string): string[] {
    return this.lines.filter((line) => line.includes(text));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.supervisor?.kill();
    await this.supervisor?.stop();
    this.reactor.close();
    this.directory[Symbol.dispose]();
  }
}

/** True when there is no such process any more. */
function isGone(pid: number): boolean {
  try {
    return / Z /.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
}

Deno.test("each device has a process of its own, or the one it names", async () => {
  await using bench = new Bench();
  await bench.start([
    bench.device("a"),
    bench.device("b", { process: "pool" }),
    bench.device("c"),
    bench.device("d", { process: "pool" }),
  ]);
  const [a, b, c, d] = await Promise.all(
    ["a", "b", "c", "d"].map((name) => bench.facts(name)),
  );
  assertEquals(new Set([a.pid, b.pid, c.pid, Deno.pid]).size, 4);
  assertEquals(b.pid, d.pid);
  assertEquals([a.process, b.process], [null, "pool"]);
  for (const { state, restarts, lastExit, problem, rss } of [a, b, c, d]) {
    assertEquals(
      [state, restarts, lastExit, problem],
      ["running", 0, null, null],
    );
    assert(rss! > 10 << 20 && rss! < 500 << 20, `${rss}`);
  }
  const command = Deno.readTextFileSync(`/proc/${b.pid}/cmdline`).split("\0");
  assertEquals(command.slice(-3), ["b", "d", ""]);
  assert(await bench.supervisor.stop());
  for (const { pid } of [a, b, c]) assert(isGone(pid));
  assertEquals([...Deno.readDirSync(bench.directory.path)], []);
  assertEquals(bench.lines, []);
});

Deno.test("commands and their errors pass through", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")]);
  const [device] = bench.supervisor.devices;
  assertEquals(await device.command("echo", { x: [1] }), { x: [1] });
  const error = await assertRejects(
    () => device.command("refuse", {}),
    RemoteError,
  );
  assertEquals([error.kind, error.message], ["ENOSPC", "The medium is full"]);
});

Deno.test("what a device prints becomes log lines", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")]);
  await bench.command("a", "print");
  await waitUntil(() => bench.lines.length === 2, { what: "two lines" });
  const { pid } = await bench.facts("a");
  for (const text of ["printed", "complained"]) {
    const [line] = bench.logged(text);
    assertMatch(line, new RegExp(` warn {2}${text} device=a pid=${pid}\n$`));
  }
});

Deno.test("a process that dies is started again on the same socket", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a"), bench.device("b")]);
  const other = await bench.facts("b");
  const ways: [string, (pid: number) => void, string | RegExp][] = [
    ["SIGKILL", (pid) => Deno.kill(pid, "SIGKILL"), /^killed by SIGKILL \(/],
    [
      "SIGSEGV",
      () => void bench.command("a", "segfault").catch(() => {}),
      /^killed by SIGSEGV \(/,
    ],
    ["SIGABRT", (pid) => Deno.kill(pid, "SIGABRT"), /^killed by SIGABRT \(/],
    [
      "SIGTERM",
      (pid) => Deno.kill(pid, "SIGTERM"),
      /^it ended by itself with exit code 0$/,
    ],
    [
      "uncaught error",
      () => void bench.command("a", "throw").catch(() => {}),
      /^device "a" failed: .*The medium caught fire$/,
    ],
    [
      "heap exhaustion",
      () => void bench.command("a", "exhaust").catch(() => {}),
      /^killed by SIG(TRAP|ABRT|ILL): Fatal JavaScript out of memory: .+$/,
    ],
  ];
  for (const [i, [way, die, expected]] of ways.entries()) {
    const { pid } = await bench.until("a", "running", i);
    die(pid);
    // Connects while nobody accepts: it waits in the backlog.
    const frontEnd = FrontEnd.connect(bench.directory.file("a.sock"));
    const after = await bench.until("a", "running", i + 1);
    assertMatch(after.lastExit!, expected as RegExp, way);
    assert(after.pid !== pid && isGone(pid), way);
    const [line, ...more] = bench.logged("The device process died: ")
      .filter((each) => each.includes(`pid=${pid}\n`));
    assertEquals(more, [], way);
    assertStringIncludes(
      line,
      ` error The device process died: ${after.lastExit}`,
    );
    assertMatch(line, /; starting it again( in [\d.]+ s)? device=a /);
    // The one that connected early may have met the one that was dying.
    frontEnd.close();
    const next = FrontEnd.connect(bench.directory.file("a.sock"));
    await next.handshake();
    next.close();
  }
  assertEquals(bench.logged("Served again").length, ways.length);
  const { pid, restarts } = await bench.facts("b");
  assertEquals([pid, restarts], [other.pid, 0]);
  assert(await bench.supervisor.stop());
});

Deno.test("who lives long comes back at once, who does not waits more and more", async () => {
  for (const longLife of [0, 60_000]) {
    await using bench = new Bench();
    await bench.start([bench.device("a")], { longLife });
    for (let i = 0; i < 3; i++) {
      Deno.kill((await bench.facts("a")).pid, "SIGKILL");
      await bench.until("a", "running", i + 1);
    }
    assertEquals(
      bench.logged("died").map((line) =>
        /starting it again(.*) device=/.exec(line)?.[1]
      ),
      longLife === 0 ? ["", "", ""] : ["", " in 0.1 s", " in 0.2 s"],
    );
  }
});

Deno.test("killing waits for nothing", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a"), bench.device("b")], {
    drainLimit: 10 * LIMIT,
  });
  const pids = [(await bench.facts("a")).pid, (await bench.facts("b")).pid];
  bench.command("a", "hang").catch(() => {});
  bench.supervisor.kill();
  await waitUntil(() => pids.every(isGone), {
    what: "the end",
    timeout: LIMIT,
  });
  assertEquals([...Deno.readDirSync(bench.directory.path)], []);
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.logged("died"), []);
});

Deno.test("devices of one process die and come back together", async () => {
  await using bench = new Bench();
  await bench.start([
    bench.device("a", { process: "pool" }),
    bench.device("b", { process: "pool" }),
    bench.device("c"),
  ]);
  const [a, c] = [await bench.facts("a"), await bench.facts("c")];
  bench.command("b", "throw").catch(() => {});
  const after = [
    await bench.until("a", "running", 1),
    await bench.until("b", "running", 1),
  ];
  assertEquals(after[0].pid, after[1].pid);
  assert(after[0].pid !== a.pid);
  assertMatch(after[0].lastExit!, /^device "b" failed/);
  assertEquals((await bench.facts("c")).pid, c.pid);
  assertEquals(bench.logged("process=pool").length > 0, true);
});

Deno.test("nothing is served when a device refuses to start", async () => {
  await using bench = new Bench();
  Deno.writeTextFileSync(bench.directory.file("b.refuse"), "No medium");
  bench.open([
    bench.device("a"),
    bench.device("b", { process: "pool" }),
    bench.device("c", { process: "pool" }),
  ]);
  const error = await assertRejects(
    () => withDeadline(bench.supervisor.start(), LIMIT, "the start"),
    RemoteError,
  );
  assertEquals([error.kind, error.message], ["EIO", "No medium"]);
  assert(await bench.supervisor.stop());
  assertEquals(
    [...Deno.readDirSync(bench.directory.path)].map(({ name }) => name),
    ["b.refuse"],
  );
  assertEquals(bench.lines, []);
});

Deno.test("a process that dies while it starts is told by its end", async () => {
  await using bench = new Bench();
  const broken = "data:application/typescript,throw%20new%20Error('broken')";
  bench.open([bench.device("a", { module: broken })]);
  await assertRejects(
    () => withDeadline(bench.supervisor.start(), LIMIT, "the start"),
    Error,
    "broken",
  );
  const started = assertRejects(
    () => bench.open([bench.device("b")]).start(),
    HostError,
    'Cannot serve "b": the device process died: killed by SIGKILL',
  );
  bench.supervisor.kill();
  await withDeadline(started, LIMIT, "the refusal");
});

Deno.test("a device that cannot start again is tried until it can", async () => {
  await using bench = new Bench();
  const refusal = bench.directory.file("a.refuse");
  await bench.start([bench.device("a"), bench.device("b")]);
  const { pid } = await bench.facts("a");
  Deno.writeTextFileSync(refusal, "The medium is gone");
  Deno.kill(pid, "SIGKILL");
  const failed = await bench.until("a", "failed", 3);
  assertEquals(
    [failed.pid, failed.rss, failed.problem, failed.connections],
    [null, null, "The medium is gone", 0],
  );
  assertMatch(failed.lastExit!, /^killed by SIGKILL/);
  const error = await assertRejects(
    () => bench.command("a", "echo"),
    HostError,
  );
  assertEquals(
    error.message,
    "It is not served at present: The medium is gone",
  );
  assertEquals((await bench.facts("b")).state, "running");
  // The reason is logged once, not at each attempt.
  assertEquals(
    bench.logged("Cannot serve it again: The medium is gone; trying on").length,
    1,
  );
  Deno.removeSync(refusal);
  const back = await bench.until("a", "running");
  assertEquals(back.problem, null);
  assertEquals(await bench.command("a", "echo"), {});
});

Deno.test("stopping does not wait for a device that is tried again", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")]);
  Deno.writeTextFileSync(bench.directory.file("a.refuse"), "gone");
  Deno.kill((await bench.facts("a")).pid, "SIGKILL");
  await bench.until("a", "failed", 2);
  assert(await withDeadline(bench.supervisor.stop(), LIMIT, "the stop"));
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.logged("Served again"), []);
});

Deno.test("a process that does not drain gives up, one that hangs is killed", async () => {
  await using bench = new Bench();
  const options = { drainLimit: 200 };
  await bench.start([bench.device("a"), bench.device("b")], options);
  const [a, b] = [await bench.facts("a"), await bench.facts("b")];
  bench.command("a", "hang").catch(() => {});
  Deno.kill(b.pid, "SIGSTOP");
  const clean = await withDeadline(bench.supervisor.stop(), LIMIT, "the stop");
  assertEquals(clean, false);
  assert(isGone(a.pid) && isGone(b.pid));
  const told = bench.logged(" error Cannot stop cleanly: ").map((line) =>
    line.replace(/^.*cleanly: /, "").trim()
  ).sort();
  assertEquals(told, [
    "exit code 1 device=a",
    "it did not end in 2200 ms and was killed device=b",
  ]);
});

Deno.test("a process that does not answer is told as such", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")], { statusLimit: 100 });
  const { pid } = await bench.facts("a");
  Deno.kill(pid, "SIGSTOP");
  const silent = await bench.facts("a");
  assertEquals(
    [silent.state, silent.pid, silent.problem],
    ["running", pid, "No answer in 100 ms"],
  );
  Deno.kill(pid, "SIGCONT");
  await waitUntil(async () => (await bench.facts("a")).problem === null, {
    what: "an answer",
  });
});

/** A connected front-end, and the descriptor for the supervisor. */
function connectedPair(): [FrontEnd, number] {
  const [near, far] = UnixSocket.pair();
  using _far = far;
  return [FrontEnd.connect(near), dupFd(far.fd)];
}

Deno.test("a connected socket is served until its front-end leaves", async () => {
  await using bench = new Bench();
  const [frontEnd, fd] = connectedPair();
  await bench.start([bench.device("a", { fd })]);
  await frontEnd.handshake();
  assert((await bench.facts("a")).connected);
  frontEnd.close();
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.supervisor.lost, false);
  assertEquals(bench.logged("died"), []);
});

Deno.test("the connection is lost with the process that serves it", async () => {
  await using bench = new Bench();
  const [frontEnd, fd] = connectedPair();
  const pool = { process: "pool" };
  await bench.start([
    bench.device("a", { fd, ...pool }),
    bench.device("b", pool),
  ]);
  await frontEnd.handshake();
  Deno.kill((await bench.facts("a")).pid, "SIGKILL");
  await withDeadline(frontEnd.closedByPeer(), LIMIT, "the hang-up");
  frontEnd.close();
  // The other device of the process goes on, without this one.
  await bench.until("b", "running", 1);
  assertEquals(bench.supervisor.lost, true);
  const { pid } = await bench.facts("b");
  const command = Deno.readTextFileSync(`/proc/${pid}/cmdline`).split("\0");
  assertEquals(command.at(-2), "b");
});

Deno.test("it ends when the last connection is lost", async () => {
  await using bench = new Bench();
  const [frontEnd, fd] = connectedPair();
  await bench.start([bench.device("a", { fd })]);
  await frontEnd.handshake();
  Deno.kill((await bench.facts("a")).pid, "SIGKILL");
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.supervisor.lost, true);
  assertEquals((await bench.facts("a")).state, "failed");
  assertEquals(bench.logged("; its front-end cannot come back").length, 1);
  frontEnd.close();
});

Deno.test("an inherited socket that listens outlives the processes", async () => {
  await using bench = new Bench();
  using listener = UnixListener.listen(bench.directory.file("own.sock"));
  const fd = dupFd(listener.fd);
  setCloexec(fd, false);
  await bench.start([bench.device("a", { fd })]);
  assert(isCloexec(fd));
  for (let i = 0; i < 2; i++) {
    const frontEnd = FrontEnd.connect(listener.path);
    await frontEnd.handshake();
    frontEnd.close();
    Deno.kill((await bench.facts("a")).pid, "SIGKILL");
    await bench.until("a", "running", i + 1);
  }
  assert(await bench.supervisor.stop());
  assert(Deno.lstatSync(listener.path).isSocket);
});

Deno.test("no socket is left open when one cannot be had", async () => {
  await using bench = new Bench();
  using _busy = UnixListener.listen(bench.directory.file("b.sock"));
  assertThrows(
    () => bench.open([bench.device("a"), bench.device("b")]),
    Error,
    "another server listens there already",
  );
  assertEquals(
    [...Deno.readDirSync(bench.directory.path)].map(({ name }) => name),
    ["b.sock"],
  );
});

Deno.test("a supervisor leaks nothing over the lives of its processes", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")]);
  let restarts = 0;
  await assertNoLeaks(async () => {
    Deno.kill((await bench.facts("a")).pid, "SIGKILL");
    await bench.until("a", "running", ++restarts);
  });
});
