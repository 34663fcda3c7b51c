import { assertEquals, assertRejects } from "@std/assert";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { QmpClient, QmpError } from "./qmp.ts";

/** The server's side of a real connection, speaking as QEMU does. */
class Monitor implements Disposable {
  #directory = TemporaryDirectory.make("qmp");
  #listener: Deno.UnixListener;
  #connection: Deno.UnixConn | null = null;
  #text = "";

  constructor() {
    const path = this.#directory.file("qmp.sock");
    this.#listener = Deno.listen({ transport: "unix", path });
  }

  /** Both ends, after greeting and negotiation. */
  async connect(): Promise<QmpClient> {
    const path = this.#directory.file("qmp.sock");
    const connection = await Deno.connect({ transport: "unix", path });
    this.#connection = await this.#listener.accept();
    await this.write('{"QMP": {"version": {}, "capabilities": []}}\r\n');
    const client = QmpClient.open(connection);
    assertEquals(await this.read(), "qmp_capabilities");
    await this.write('{"return": {}, "id": 1}\r\n');
    return await client;
  }

  /** The name of the next command. */
  async read(): Promise<string> {
    const into = new Uint8Array(4_096);
    while (!this.#text.includes("\n")) {
      const length = await this.#connection!.read(into);
      this.#text += new TextDecoder().decode(into.subarray(0, length ?? 0));
    }
    const [line, ...rest] = this.#text.split("\n");
    this.#text = rest.join("\n");
    return JSON.parse(line).execute;
  }

  async write(text: string): Promise<void> {
    await this.#connection!.write(new TextEncoder().encode(text));
  }

  hangUp(): void {
    this.#connection?.close();
    this.#connection = null;
  }

  [Symbol.dispose](): void {
    this.hangUp();
    this.#listener.close();
    this.#directory[Symbol.dispose]();
  }
}

Deno.test("QmpClient: replies are matched by id, events come between", async () => {
  using monitor = new Monitor();
  await using client = await monitor.connect();
  const both = Promise.all([client.execute("a"), client.execute("b")]);
  await monitor.read();
  await monitor.read();
  await monitor.write('{"return": "second", "id": 3}\r\n{"event": "RES');
  await monitor.write('ET", "data": {"guest": true}}\r\n');
  await monitor.write('{"return": "first", "id": 2}\r\n');
  assertEquals(await both, ["first", "second"]);
  assertEquals(client.events, [{ event: "RESET", data: { guest: true } }]);
});

Deno.test("QmpClient: a refusal carries QEMU's words", async () => {
  using monitor = new Monitor();
  await using client = await monitor.connect();
  const reply = client.execute("device_del", { id: "d9" });
  reply.catch(() => {});
  await monitor.read();
  await monitor.write(
    '{"id": 2, "error": {"class": "DeviceNotFound", "desc": "no d9"}}\r\n',
  );
  const error = await assertRejects(
    () => reply,
    QmpError,
    "QEMU refused device_del: no d9",
  );
  assertEquals(error.kind, "refused");
});

Deno.test("QmpClient: each event is taken once", async () => {
  using monitor = new Monitor();
  await using client = await monitor.connect();
  await monitor.write('{"event": "RESET", "data": {"n": 1}}\r\n');
  assertEquals((await client.event("RESET")).data, { n: 1 });
  const next = client.event("RESET");
  await monitor.write('{"event": "STOP"}\r\n{"event": "RESET"}\r\n');
  assertEquals((await next).data, {});
  const error = await assertRejects(() => client.event("RESET", 20), QmpError);
  assertEquals(error.kind, "timeout");
  assertEquals((await client.event("STOP")).event, "STOP");
});

Deno.test("QmpClient: the end of QEMU ends every wait", async () => {
  using monitor = new Monitor();
  await using client = await monitor.connect();
  const waits = [client.event("SHUTDOWN"), client.execute("quit")];
  for (const wait of waits) wait.catch(() => {});
  await monitor.read();
  monitor.hangUp();
  for (const wait of waits) {
    const error = await assertRejects(() => wait, QmpError);
    assertEquals(error.kind, "closed");
  }
});
