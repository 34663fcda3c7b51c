import { assertEquals, assertRejects } from "@std/assert";
import { Epoll, EPOLLIN } from "../sys/epoll.ts";
import { openFdCount } from "../sys/fd.ts";
import { UnixSocket } from "../sys/unix_socket.ts";
import { waitUntil, withDeadline } from "../tests/support/deadline.ts";
import {
  FrontEndMessage,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_VERSION,
} from "../vhost/constants.ts";
import type { ConfigLoan } from "../vhost/data_plane.ts";
import {
  encodeConfig,
  encodeMessage,
  encodeReply,
  encodeU64,
} from "../vhost/message.ts";
import { DeviceError, WorkerPlane } from "./worker_plane.ts";

const { GET_CONFIG, SET_CONFIG, GET_STATUS } = FrontEndMessage;
const READ = encodeMessage(
  GET_CONFIG,
  VHOST_USER_VERSION,
  encodeConfig(0, 0, new Uint8Array(16)),
);
const FOREIGN = encodeMessage(GET_STATUS, VHOST_USER_VERSION);

/** A balloon, whose driver writes the words at 4 and 12. */
class LentBalloon implements AsyncDisposable {
  readonly #ours: UnixSocket;
  readonly #theirs: UnixSocket;
  readonly #epoll = new Epoll();
  readonly loan: ConfigLoan;

  private constructor(readonly plane: WorkerPlane) {
    [this.#ours, this.#theirs] = UnixSocket.pair();
    this.#epoll.add(this.#theirs.fd, EPOLLIN, 0);
    const counts = new Uint32Array(new SharedArrayBuffer(8));
    this.loan = { fd: this.#ours.fd, acknowledges: true, counts };
  }

  static async start(): Promise<LentBalloon> {
    const plane = await WorkerPlane.start({
      module: new URL("../backends/balloon/mod.ts", import.meta.url).href,
      options: {},
      log() {},
    });
    return new LentBalloon(plane);
  }

  /** Sends a message; this thread stands still until its answer is there. */
  ask(message: Uint8Array): Uint8Array {
    this.send(message);
    assertEquals(this.#epoll.wait(10_000), 1, "an answer");
    const bytes = new Uint8Array(512);
    return bytes.slice(0, this.#theirs.tryReceive(bytes, []));
  }

  send(message: Uint8Array): void {
    assertEquals(this.#theirs.trySend(message), message.length);
  }

  /** What the session finds in its socket. */
  left(): Uint8Array {
    const bytes = new Uint8Array(512);
    return bytes.slice(0, Math.max(0, this.#ours.tryReceive(bytes, [])));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await withDeadline(this.plane.close(), 5_000, "the Worker to end");
    this.#epoll.close();
    this.#ours.close();
    this.#theirs.close();
  }
}

function write(config: Uint8Array): Uint8Array {
  return encodeMessage(
    SET_CONFIG,
    VHOST_USER_VERSION | VHOST_USER_NEED_REPLY,
    encodeConfig(0, 0, config),
  );
}

Deno.test("the Worker answers while this thread does something else", async () => {
  await using balloon = await LentBalloon.start();
  const { plane, loan } = balloon;
  const over = plane.configDelegate!.answer(loan);
  const reply = (config: Uint8Array): Uint8Array =>
    encodeReply(GET_CONFIG, encodeConfig(0, 0, config));
  assertEquals(balloon.ask(READ), reply(new Uint8Array(16)));
  // The words that the host has to say are not the driver's.
  const all = new Uint8Array(16).fill(7);
  assertEquals(
    balloon.ask(write(all)),
    encodeReply(SET_CONFIG, encodeU64(0n)),
  );
  const config = new Uint8Array(16);
  config.fill(7, 4, 8);
  config.fill(7, 12, 16);
  assertEquals(balloon.ask(READ), reply(config));
  assertEquals([...plane.config], [...config]);
  assertEquals([...loan.counts], [2, 1]);
  balloon.send(FOREIGN);
  await withDeadline(over, 5_000, "the connection");
  assertEquals(balloon.left(), FOREIGN);
});

Deno.test("a loan ends on demand, and leaves nothing", async () => {
  await using balloon = await LentBalloon.start();
  const delegate = balloon.plane.configDelegate!;
  delegate.end();
  const before = openFdCount();
  for (let i = 0; i < 3; i++) {
    const over = delegate.answer(balloon.loan);
    balloon.ask(READ);
    assertEquals(openFdCount(), before);
    delegate.end();
    await withDeadline(over, 5_000, "the connection");
    assertEquals(openFdCount(), before);
    balloon.send(READ);
    assertEquals(balloon.left(), READ);
  }
});

Deno.test("a device that is closed gives the connection back", async () => {
  const before = openFdCount();
  {
    await using balloon = await LentBalloon.start();
    void balloon.plane.configDelegate!.answer(balloon.loan);
    balloon.ask(READ);
  }
  // A thread has descriptors of its own, until it has ended.
  await waitUntil(() => openFdCount() <= before, { what: "the Worker's end" });
});

Deno.test("a descriptor that is no socket's is refused", async () => {
  await using balloon = await LentBalloon.start();
  const { loan, plane } = balloon;
  const delegate = plane.configDelegate!;
  const error = await assertRejects(
    () => delegate.answer({ ...loan, fd: 1_000_000 }),
    DeviceError,
  );
  assertEquals(error.kind, "EBADF");
  const over = delegate.answer(loan);
  balloon.ask(READ);
  balloon.send(FOREIGN);
  await withDeadline(over, 5_000, "the connection");
});

Deno.test("a device without words of the driver's is not asked", async () => {
  const plane = await WorkerPlane.start({
    module: new URL("./worker/testing/memory_device.ts", import.meta.url).href,
    options: {},
    log() {},
  });
  assertEquals(plane.configDelegate, null);
  await plane.close();
});
