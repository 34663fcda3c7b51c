import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { z } from "zod";
import { Reactor } from "../../sys/reactor.ts";
import { HostError } from "../error.ts";
import { Logger } from "../log.ts";
import { ManagementClient } from "./client.ts";
import { RpcError } from "./json_rpc.ts";
import { Methods } from "./methods.ts";
import { ManagementServer } from "./server.ts";

async function inDirectory(
  work: (path: string, reactor: Reactor) => Promise<void>,
): Promise<void> {
  const directory = Deno.makeTempDirSync();
  using reactor = new Reactor();
  try {
    await work(`${directory}/m.sock`, reactor);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** A server that says `answer` once and closes the connection. */
async function answerOnce(path: string, answer: string | null): Promise<void> {
  using listener = Deno.listen({ transport: "unix", path });
  using connection = await listener.accept();
  await connection.read(new Uint8Array(4096));
  if (answer === null) await connection.read(new Uint8Array(1));
  else await connection.write(new TextEncoder().encode(answer));
}

Deno.test("ManagementClient.call() returns results and throws errors", async () => {
  await inDirectory(async (path, reactor) => {
    const methods = new Methods({ title: "test", version: "1" });
    methods.register("twice", {
      summary: "Doubles",
      params: z.strictObject({ value: z.number() }),
      result: z.number(),
      handler: ({ value }) => 2 * value,
    });
    const log = new Logger({ level: "error" });
    using _server = ManagementServer.listen(path, methods, reactor, log);
    using client = ManagementClient.connect(path, reactor);
    assertEquals(await client.call("twice", { value: 4 }), 8);
    const error = await assertRejects(() => client.call("halve"), RpcError);
    assertEquals(
      [error.code, error.message],
      [-32601, 'There is no method "halve"'],
    );
    assertEquals(await client.call("twice", { value: 5 }), 10);
  });
});

Deno.test("ManagementClient.connect() says where nobody listens", async () => {
  await inDirectory((path, reactor) => {
    const refusal = () =>
      assertThrows(() => ManagementClient.connect(path, reactor), HostError)
        .message;
    const expected =
      `No server listens on "${path}": start "serve", or name its socket with --management=PATH`;
    assertEquals(refusal(), expected);
    // A socket file that its server left behind.
    const script = `Deno.listen({ transport: "unix", path: ${
      JSON.stringify(path)
    } }); Deno.exit()`;
    new Deno.Command(Deno.execPath(), { args: ["eval", script] }).outputSync();
    assertEquals(Deno.lstatSync(path).isSocket, true);
    assertEquals(refusal(), expected);
    return Promise.resolve();
  });
});

Deno.test("ManagementClient.call() refuses what is no answer", async () => {
  const cases: [string, string][] = [
    ["", "the server closed the connection"],
    ["{}\n", "the answer is no JSON-RPC 2.0 response"],
    ["null\n", "the answer is no JSON-RPC 2.0 response"],
    [
      '{"jsonrpc":"2.0","result":1,"id":7}\n',
      "the answer is to request 7, not to 1",
    ],
  ];
  for (const [answer, problem] of cases) {
    await inDirectory(async (path, reactor) => {
      const served = answerOnce(path, answer);
      using client = ManagementClient.connect(path, reactor);
      const error = await assertRejects(() => client.call("x"), HostError);
      await served;
      assertEquals(
        [error.kind, error.message],
        ["management", `Calling "x" on "${path}" failed: ${problem}`],
      );
    });
  }
});

Deno.test("ManagementClient.call() gives up when no answer comes", async () => {
  await inDirectory(async (path, reactor) => {
    const served = answerOnce(path, null);
    using client = ManagementClient.connect(path, reactor);
    const error = await assertRejects(
      () => client.call("x", {}, 20),
      HostError,
    );
    await served;
    assertEquals(
      error.message,
      `Calling "x" on "${path}" failed: no answer in 20 ms`,
    );
  });
});
