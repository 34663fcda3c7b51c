import { assertEquals, assertObjectMatch, assertRejects } from "@std/assert";
import { type ManagedDevice, registerDeviceMethods } from "./device_methods.ts";
import { RpcError } from "./json_rpc.ts";
import { Methods } from "./methods.ts";

function device(
  name: string,
  session: Record<string, unknown> | null,
): ManagedDevice {
  return {
    name,
    type: "blk",
    process: null,
    amend: () => {},
    status: () =>
      Promise.resolve({
        name,
        type: "blk",
        socket: `${name}.sock`,
        process: null,
        state: "running",
        problem: null,
        pid: 7,
        rss: 1 << 20,
        restarts: 0,
        lastExit: null,
        connected: session !== null,
        connections: 2,
        refusedConnections: 1,
        session,
        rings: [{ index: 0, size: 128, kicks: 7 }],
        device: { capacity: 512 },
      }),
    command: (command) => {
      if (name === "bad") return Promise.reject(new Error("No medium"));
      if (command === "resume") return Promise.resolve({ resumed: 3 });
      assertEquals(command, "resize");
      return Promise.resolve({ capacity: 1024, previousCapacity: 512 });
    },
  };
}

function methodsOf(...devices: ManagedDevice[]): Methods {
  const methods = new Methods({ title: "test", version: "9" });
  registerDeviceMethods(methods, devices, "9");
  return methods;
}

const SESSION = { features: "0x130000204", protocolFeatures: ["MQ"], extra: 1 };

Deno.test("status tells of devices and names features", async () => {
  const methods = methodsOf(device("a", SESSION), device("b", null));
  const status = await methods.call("status", {}) as Record<string, unknown>;
  assertObjectMatch(status, {
    version: "9",
    pid: Deno.pid,
    devices: [
      {
        name: "a",
        connections: 2,
        session: {
          features: "0x130000204",
          featureNames: [
            "SEG_MAX",
            "FLUSH",
            "INDIRECT_DESC",
            "EVENT_IDX",
            "VERSION_1",
          ],
          protocolFeatures: ["MQ"],
          extra: 1,
        },
        rings: [{ index: 0, kicks: 7 }],
        device: { capacity: 512 },
      },
      { name: "b", connected: false, session: null },
    ],
  });
  const one = await methods.call("status", { name: "b" }) as {
    devices: { name: string }[];
  };
  assertEquals(one.devices.map(({ name }) => name), ["b"]);
});

Deno.test("resize reaches one device or all", async () => {
  const methods = methodsOf(device("a", null), device("b", null));
  const sizes = { capacity: 1024, previousCapacity: 512 };
  assertEquals(await methods.call("resize", { name: "b" }), {
    devices: [{ name: "b", ...sizes }],
  });
  assertEquals(await methods.call("resize", { name: "all" }), {
    devices: [{ name: "a", ...sizes }, { name: "b", ...sizes }],
  });
});

Deno.test("resume reaches one device or all", async () => {
  const methods = methodsOf(device("a", null), device("b", null));
  assertEquals(await methods.call("resume", { name: "all" }), {
    devices: [{ name: "a" }, { name: "b" }],
  });
});

Deno.test("resize goes on when a device refuses, and says which", async () => {
  const asked: string[] = [];
  const devices = ["a", "bad", "c"].map((name): ManagedDevice => {
    const { command, ...rest } = device(name, null);
    return {
      ...rest,
      command: (...args) => (asked.push(name), command(...args)),
    };
  });
  const error = await assertRejects(
    () => methodsOf(...devices).call("resize", { name: "all" }),
    RpcError,
  );
  assertEquals(
    [error.code, error.message],
    [-32000, 'Cannot resize "bad": No medium'],
  );
  assertEquals(asked, ["a", "bad", "c"]);
});

Deno.test("status and resize refuse names that no device has", async () => {
  const methods = methodsOf(device("root", null), device("data", null));
  for (const method of ["status", "resize", "resume"]) {
    const refusal = async (name: string) =>
      (await assertRejects(() => methods.call(method, { name }), RpcError))
        .message;
    assertEquals(
      await refusal("roto"),
      'There is no device "roto" (did you mean "root"?)',
    );
    assertEquals(await refusal(""), 'There is no device "": root, data');
  }
});
