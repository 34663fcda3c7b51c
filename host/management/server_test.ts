import { assert, assertEquals, assertThrows } from "@std/assert";
import { z } from "zod";
import { openFdCount } from "../../sys/fd.ts";
import { createMemfd } from "../../sys/memfd.ts";
import { Reactor } from "../../sys/reactor.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { waitUntil } from "../../tests/support/deadline.ts";
import { Logger } from "../log.ts";
import { MAXIMUM_LINE } from "./line_channel.ts";
import { Methods } from "./methods.ts";
import { ManagementServer, MAXIMUM_CLIENTS } from "./server.ts";

const BIG = "x".repeat(1 << 18);

/** A server in a directory of its own, and what its methods were called with. */
class Fixture implements Disposable {
  readonly directory: string = Deno.makeTempDirSync();
  readonly path: string = `${this.directory}/m.sock`;
  readonly reactor: Reactor = new Reactor();
  readonly calls: string[] = [];
  readonly waiting: PromiseWithResolvers<null> = Promise.withResolvers();
  readonly server: ManagementServer;

  constructor() {
    const methods = new Methods({ title: "test", version: "1" });
    const note = (name: string) => void this.calls.push(name);
    methods.register("echo", {
      summary: "Returns its parameter",
      params: z.strictObject({ value: z.unknown() }),
      result: z.unknown(),
      handler: ({ value }) => (note("echo"), value),
    });
    methods.register("big", {
      summary: "Returns much",
      params: z.strictObject({}),
      result: z.string(),
      handler: () => (note("big"), BIG),
    });
    methods.register("wait", {
      summary: "Returns when it is told",
      params: z.strictObject({}),
      result: z.null(),
      handler: () => (note("wait"), this.waiting.promise),
    });
    this.server = this.listen(methods);
  }

  listen(methods: Methods = new Methods({ title: "", version: "" })) {
    const log = new Logger({ level: "error" });
    return ManagementServer.listen(this.path, methods, this.reactor, log);
  }

  async connect(): Promise<Peer> {
    const path = this.path;
    return new Peer(await Deno.connect({ transport: "unix", path }));
  }

  [Symbol.dispose](): void {
    this.server.close();
    this.reactor.close();
    Deno.removeSync(this.directory, { recursive: true });
  }
}

/** A client over Deno's own sockets. */
class Peer implements Disposable {
  readonly #connection: Deno.UnixConn;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
    this.#reader = connection.readable
      .pipeThrough(new TextDecoderStream()).getReader();
  }

  async send(text: string | Uint8Array): Promise<void> {
    let rest = typeof text === "string" ? new TextEncoder().encode(text) : text;
    while (rest.length > 0) {
      rest = rest.subarray(await this.#connection.write(rest));
    }
  }

  async closeWrite(): Promise<void> {
    await this.#connection.closeWrite();
  }

  /** The next line as JSON; `null` at the end of the stream. */
  async next(): Promise<unknown> {
    for (;;) {
      const feed = this.#text.indexOf("\n");
      if (feed >= 0) {
        const line = this.#text.slice(0, feed);
        this.#text = this.#text.slice(feed + 1);
        return JSON.parse(line);
      }
      const { value, done } = await this.#reader.read().catch(() => ({
        value: "",
        done: true,
      }));
      if (done) return this.#text === "" ? null : JSON.parse(this.#text);
      this.#text += value;
    }
  }

  async ask(text: string): Promise<unknown> {
    await this.send(text + "\n");
    return await this.next();
  }

  [Symbol.dispose](): void {
    try {
      this.#connection.close();
    } catch {
      // The end of the stream closed it.
    }
  }
}

function echo(id: number | string, value: unknown): string {
  const params = { value };
  return JSON.stringify({ jsonrpc: "2.0", method: "echo", params, id });
}

function result(id: number | string, value: unknown): unknown {
  return { jsonrpc: "2.0", result: value, id };
}

/** Waits for a condition of the server. */
function until(condition: () => boolean): Promise<void> {
  return waitUntil(condition, { what: String(condition), interval: 1 });
}

Deno.test("ManagementServer makes a private socket and removes it", () => {
  using fixture = new Fixture();
  const { mode, isSocket } = Deno.lstatSync(fixture.path);
  assertEquals([isSocket, mode! & 0o777], [true, 0o600]);
  assertThrows(() => fixture.listen(), Error, "another server listens there");
  fixture.server.close();
  assertThrows(() => Deno.lstatSync(fixture.path), Deno.errors.NotFound);
  fixture.listen().close();
});

Deno.test("ManagementServer answers requests one after the other", async () => {
  using fixture = new Fixture();
  using peer = await fixture.connect();
  assertEquals(await peer.ask(echo(1, "ä")), result(1, "ä"));
  await peer.send(`${echo(2, 2)}\n\r\n \n${echo("c", [3])}\n`);
  assertEquals(await peer.next(), result(2, 2));
  assertEquals(await peer.next(), result("c", [3]));
});

Deno.test("ManagementServer takes requests in any pieces", async () => {
  using fixture = new Fixture();
  using peer = await fixture.connect();
  for (const byte of new TextEncoder().encode(echo(1, "äöü") + "\n")) {
    await peer.send(Uint8Array.of(byte));
  }
  assertEquals(await peer.next(), result(1, "äöü"));
  const large = "y".repeat(200_000);
  assertEquals(await peer.ask(echo(2, large)), result(2, large));
});

Deno.test("ManagementServer answers a last line without line feed", async () => {
  using fixture = new Fixture();
  using peer = await fixture.connect();
  await peer.send(echo(1, "end"));
  await peer.closeWrite();
  assertEquals(await peer.next(), result(1, "end"));
  assertEquals(await peer.next(), null);
});

Deno.test("ManagementServer answers batches, and notifications not at all", async () => {
  using fixture = new Fixture();
  using peer = await fixture.connect();
  const notification = '{"jsonrpc":"2.0","method":"echo","params":{"value":1}}';
  await peer.send(`${notification}\n[${notification}]\n`);
  assertEquals(
    await peer.ask(`[${echo(1, 1)},${notification},${echo(2, 2)}]`),
    [result(1, 1), result(2, 2)],
  );
  assertEquals(fixture.calls.length, 5);
});

Deno.test("ManagementServer goes on after a request that is none", async () => {
  using fixture = new Fixture();
  using peer = await fixture.connect();
  const code = async (text: string) =>
    (await peer.ask(text) as { error: { code: number } }).error.code;
  assertEquals(await code("{bad"), -32700);
  assertEquals(await code("{}"), -32600);
  assertEquals(await code('{"jsonrpc":"2.0","method":"x","id":1}'), -32601);
  assertEquals(
    await code('{"jsonrpc":"2.0","method":"big","params":{"a":1},"id":1}'),
    -32602,
  );
  assertEquals(await peer.ask(echo(1, 1)), result(1, 1));
});

Deno.test("ManagementServer drops a client whose line is too long", async () => {
  using fixture = new Fixture();
  using peer = await fixture.connect();
  const fits = echo(1, "");
  const padded = fits + " ".repeat(MAXIMUM_LINE - fits.length);
  assertEquals(await peer.ask(padded), result(1, ""));
  await peer.send(padded + " ");
  assertEquals(await peer.next(), {
    jsonrpc: "2.0",
    error: {
      code: -32600,
      message: `A line is longer than ${MAXIMUM_LINE} bytes`,
    },
    id: null,
  });
  assertEquals(await peer.next(), null);
  assertEquals(fixture.calls.length, 1);
});

Deno.test("ManagementServer drops a client whose line is no UTF-8", async () => {
  using fixture = new Fixture();
  using peer = await fixture.connect();
  await peer.send(Uint8Array.of(0x22, 0xff, 0x22, 10));
  assertEquals(await peer.next(), {
    jsonrpc: "2.0",
    error: { code: -32600, message: "A line is no UTF-8" },
    id: null,
  });
  assertEquals(await peer.next(), null);
});

Deno.test("ManagementServer drops a client that sends descriptors", async () => {
  using fixture = new Fixture();
  using witness = await fixture.connect();
  assertEquals(await witness.ask(echo(1, 1)), result(1, 1));
  using memfd = createMemfd("test", 4096);
  const before = openFdCount();
  {
    using socket = UnixSocket.connect(fixture.path);
    await until(() => fixture.server.clients === 2);
    const line = new TextEncoder().encode(echo(2, 2) + "\n");
    assertEquals(socket.trySend(line, [memfd.fd]), line.length);
    await until(() => fixture.server.clients === 1);
  }
  assertEquals(openFdCount(), before);
  assertEquals(fixture.calls.length, 1);
});

Deno.test("ManagementServer bounds the number of clients", async () => {
  using fixture = new Fixture();
  using peers = new DisposableStack();
  const all: Peer[] = [];
  for (let i = 0; i < MAXIMUM_CLIENTS; i++) {
    all.push(peers.use(await fixture.connect()));
    // Else those that wait to be accepted may become too many.
    await until(() => fixture.server.clients === all.length);
  }
  const answers = await Promise.all(all.map((peer, i) => peer.ask(echo(i, i))));
  assertEquals(answers, all.map((_, i) => result(i, i)));
  using surplus = await fixture.connect();
  assertEquals(await surplus.next(), null);
  all[0][Symbol.dispose]();
  await until(() => fixture.server.clients === MAXIMUM_CLIENTS - 1);
  using later = await fixture.connect();
  assertEquals(await later.ask(echo(1, 1)), result(1, 1));
});

Deno.test("ManagementServer lets a slow client wait for itself only", async () => {
  using fixture = new Fixture();
  using slow = await fixture.connect();
  using quick = await fixture.connect();
  const request = '{"jsonrpc":"2.0","method":"big","id":1}\n';
  await slow.send(request.repeat(50));
  await until(() => fixture.calls.includes("big"));
  for (let i = 0; i < 20; i++) {
    assertEquals(await quick.ask(echo(i, i)), result(i, i));
  }
  const served = fixture.calls.filter((name) => name === "big").length;
  assert(served < 50, `${served} of 50 results were made for nobody`);
  for (let i = 0; i < 50; i++) {
    assertEquals(await slow.next(), result(1, BIG));
  }
});

Deno.test("ManagementServer survives clients that leave", async () => {
  using fixture = new Fixture();
  {
    using peer = await fixture.connect();
    await peer.send('{"jsonrpc":"2.0","method":"wait","id":1}\n');
    await until(() => fixture.calls.includes("wait"));
  }
  {
    using peer = await fixture.connect();
    await peer.send('{"jsonrpc":"2.0","method":"big","id":1}\n'.repeat(8));
    await until(() => fixture.calls.includes("big"));
  }
  fixture.waiting.resolve(null);
  await until(() => fixture.server.clients === 0);
  using peer = await fixture.connect();
  assertEquals(await peer.ask(echo(1, 1)), result(1, 1));
});

Deno.test("ManagementServer leaks no descriptor", async () => {
  using fixture = new Fixture();
  const visit = async () => {
    using peer = await fixture.connect();
    assertEquals(await peer.ask(echo(1, 1)), result(1, 1));
  };
  await visit();
  await until(() => fixture.server.clients === 0);
  const before = openFdCount();
  for (let i = 0; i < 100; i++) await visit();
  await until(() => fixture.server.clients === 0);
  assertEquals(openFdCount(), before);
});

Deno.test("ManagementServer.close() lets all clients go", async () => {
  using fixture = new Fixture();
  using idle = await fixture.connect();
  using busy = await fixture.connect();
  await busy.send('{"jsonrpc":"2.0","method":"wait","id":1}\n');
  await until(() => fixture.calls.includes("wait"));
  fixture.server.close();
  assertEquals(await idle.next(), null);
  assertEquals(await busy.next(), null);
  fixture.waiting.resolve(null);
  await until(() => fixture.server.clients === 0);
  assertEquals(fixture.reactor.size, 0);
});
