import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { dupFd, type OwnedFd, readFd, setNonblocking } from "../../sys/fd.ts";
import { Reactor } from "../../sys/reactor.ts";
import { createPipe } from "../../sys/spawn.ts";
import { UnixListener, UnixSocket } from "../../sys/unix_socket.ts";
import { waitUntil, withDeadline } from "../../tests/support/deadline.ts";
import { assertNoLeaks } from "../../tests/support/leaks.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import type { DeviceSpec } from "../device_host.ts";
import { ControlChannel, RemoteError } from "../supervisor/control_channel.ts";
import { VERSION } from "../version.ts";
import { serveDevices } from "./serve_devices.ts";

const LIMIT = 20_000;
const MODULE = new URL(
  "../supervisor/testing/crashing_device.ts",
  import.meta.url,
).href;

/** The process's side in this process, and the supervisor's side to drive it. */
class Bench implements Disposable {
  readonly directory = TemporaryDirectory.make("proc");
  readonly reactor = new Reactor();
  readonly channel: ControlChannel;
  readonly told: unknown[] = [];
  /** Resolves when the supervisor's side has noted what is kept. */
  kept: Promise<void> = Promise.resolve();
  /** The exit code. */
  readonly code: Promise<number>;
  readonly #listeners: UnixListener[] = [];
  readonly #log: OwnedFd;

  constructor() {
    const [near, far] = UnixSocket.pair();
    const [read, write] = createPipe();
    setNonblocking(read.fd, true);
    this.#log = read;
    this.channel = new ControlChannel(near, this.reactor, {
      finished: (params) => void this.told.push(["finished", params]),
      failed: (params) => void this.told.push(["failed", params]),
      keep: (params) => {
        this.told.push(["keep", params]);
        return this.kept;
      },
    });
    this.code = serveDevices(far, write.fd, -1).finally(() => write.close());
  }

  /** A device on a socket that listens on `NAME.sock`. */
  listening(name: string, refuse?: string): DeviceSpec {
    const listener = UnixListener.listen(this.directory.file(`${name}.sock`));
    this.#listeners.push(listener);
    const fd = dupFd(listener.fd);
    return { name, type: "crash", module: MODULE, options: { refuse }, fd };
  }

  async start(
    devices: readonly DeviceSpec[],
    version = VERSION,
  ): Promise<Record<string, unknown>[]> {
    const logLevel = "info", logFormat = "json", drainLimit = 5_000;
    const params = { version, logLevel, logFormat, drainLimit, devices };
    const answer = this.channel.call("start", params);
    return await withDeadline(answer, LIMIT, "the start") as Record<
      string,
      unknown
    >[];
  }

  end(): Promise<number> {
    return withDeadline(this.code, LIMIT, "the end");
  }

  /** All log lines so far. */
  log(): { level: string; message: string }[] {
    const buffer = new Uint8Array(1 << 16);
    const count = Math.max(readFd(this.#log.fd, buffer), 0);
    return new TextDecoder().decode(buffer.subarray(0, count))
      .split("\n").filter((line) => line !== "").map((line) =>
        JSON.parse(line)
      );
  }

  [Symbol.dispose](): void {
    this.channel.close();
    for (const listener of this.#listeners) listener.close();
    this.#log.close();
    this.reactor.close();
    this.directory[Symbol.dispose]();
  }
}

Deno.test("a device process serves, tells its status, and stops", async () => {
  using bench = new Bench();
  const status = await bench.start([
    bench.listening("a"),
    bench.listening("b"),
  ]);
  assertEquals(status.map(({ name, connected }) => [name, connected]), [
    ["a", false],
    ["b", false],
  ]);
  const frontEnd = FrontEnd.connect(bench.directory.file("b.sock"));
  await frontEnd.handshake();
  const b = await bench.channel.call("status", { device: "b" });
  assertEquals((b as { connected: boolean }).connected, true);
  assertEquals(
    await bench.channel.call("command", {
      device: "a",
      name: "echo",
      params: { x: 1 },
    }),
    { x: 1 },
  );
  const error = await assertRejects(
    () => bench.channel.call("status", { device: "c" }),
    RemoteError,
    'There is no device "c" here',
  );
  assertEquals(error.kind, "usage");
  bench.channel.tell("stop");
  assertEquals(await bench.end(), 0);
  await frontEnd.closedByPeer();
  frontEnd.close();
  assertEquals(
    bench.log().filter(({ message }) => message.startsWith("Stopping")),
    [],
  );
});

Deno.test("a device process ends when the supervisor is gone", async () => {
  using bench = new Bench();
  await bench.start([bench.listening("a")]);
  bench.channel.close();
  assertEquals(await bench.end(), 0);
  const [{ level, message }] = bench.log();
  assertEquals([level, message], ["info", "Stopping: the supervisor is gone"]);
});

Deno.test("a device process that was never asked ends, too", async () => {
  using bench = new Bench();
  bench.channel.close();
  assertEquals(await bench.end(), 0);
});

Deno.test("one device that refuses ends the process with the reason", async () => {
  using bench = new Bench();
  const reason = bench.directory.file("reason");
  Deno.writeTextFileSync(reason, "No medium");
  const error = await assertRejects(
    () => bench.start([bench.listening("a"), bench.listening("b", reason)]),
    RemoteError,
  );
  assertEquals([error.kind, error.message], ["EIO", "No medium"]);
  assertEquals(await bench.end(), 1);
  assertEquals(bench.log(), []);
});

Deno.test("another version of the program is refused", async () => {
  using bench = new Bench();
  await assertRejects(
    () => bench.start([], "0.0.0-other"),
    RemoteError,
    "The server is version 0.0.0-other",
  );
  assertEquals(await bench.end(), 1);
});

Deno.test("the failure of a device ends the process, and the others drain", async () => {
  using bench = new Bench();
  await bench.start([bench.listening("a"), bench.listening("b")]);
  const frontEnd = FrontEnd.connect(bench.directory.file("b.sock"));
  await frontEnd.handshake();
  const params = { device: "a", name: "throw", params: {} };
  bench.channel.call("command", params).catch(() => {});
  assertEquals(await bench.end(), 1);
  await bench.channel.ended;
  const failed = bench.told.find((each) => (each as string[])[0] === "failed");
  const [, { device, message }] = failed as [string, Record<string, string>];
  assertEquals(device, "a");
  assertStringIncludes(message, "The medium caught fire");
  await frontEnd.closedByPeer();
  frontEnd.close();
});

Deno.test("a device process is done when every front-end has left", async () => {
  using bench = new Bench();
  const [near, far] = UnixSocket.pair();
  const spec = { ...bench.listening("a"), fd: dupFd(far.fd) };
  far.close();
  await bench.start([spec]);
  const frontEnd = FrontEnd.connect(near);
  await frontEnd.handshake();
  frontEnd.close();
  assertEquals(await bench.end(), 0);
  await bench.channel.ended;
  assertEquals(bench.told, [["finished", { device: "a", dropped: false }]]);
  // Why everything ends is the supervisor's to say.
  assert(bench.log().every(({ message }) => !message.startsWith("Stopping")));
});

Deno.test("a device process tells that it dropped its front-end", async () => {
  using bench = new Bench();
  const [near, far] = UnixSocket.pair();
  const spec = { ...bench.listening("a"), fd: dupFd(far.fd) };
  far.close();
  await bench.start([spec]);
  const frontEnd = FrontEnd.connect(near);
  await frontEnd.sendRaw(new Uint8Array(12).fill(0xff));
  await frontEnd.closedByPeer();
  assertEquals(await bench.end(), 0);
  await bench.channel.ended;
  assertEquals(bench.told, [["finished", { device: "a", dropped: true }]]);
  frontEnd.close();
});

Deno.test("a device process leaks nothing", async () => {
  await assertNoLeaks(async () => {
    using bench = new Bench();
    await bench.start([bench.listening("a")]);
    bench.channel.tell("stop");
    assert(await bench.end() === 0);
  }, { settle: 10_000 });
});

Deno.test("a device hears that a value is kept when the supervisor has it", async () => {
  using bench = new Bench();
  await bench.start([bench.listening("a")]);
  const noted = Promise.withResolvers<void>();
  bench.kept = noted.promise;
  const params = { device: "a", name: "keep", params: { mode: 1 } };
  let heard = false;
  const answer = bench.channel.call("command", params)
    .finally(() => heard = true);
  await waitUntil(() => bench.told.length > 0, { what: "the value" });
  assertEquals(bench.told, [["keep", { device: "a", value: { mode: 1 } }]]);
  // As long as it takes: others are served.
  await withDeadline(
    bench.channel.call("status", { device: "a" }),
    LIMIT,
    "the status",
  );
  assertEquals(heard, false);
  noted.resolve();
  assertEquals(await withDeadline(answer, LIMIT, "the answer"), "kept");
  bench.channel.tell("stop");
  assertEquals(await bench.end(), 0);
});
