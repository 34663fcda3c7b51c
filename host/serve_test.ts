import { assert, assertEquals, assertRejects } from "@std/assert";
import { relative, resolve, toFileUrl } from "@std/path";
import { FrontEnd, SharedRegion } from "../vhost/testing/front_end.ts";
import { FakeDriver, FakeMemory } from "../virtqueue/testing/driver.ts";
import { withDeadline } from "../tests/support/deadline.ts";
import { TemporaryDirectory } from "../tests/support/temporary_directory.ts";
import { serve } from "./serve.ts";
import { DeviceError } from "./worker/channel.ts";

const GUEST_ADDRESS = 0x10_0000;

Deno.test("serve() tells that a Worker failed, and closes the others", async () => {
  using directory = TemporaryDirectory.make("serve");
  const closed = directory.file("closed");
  const server = await serve({
    device: new URL("./worker/testing/failing_device.ts", import.meta.url),
    options: { closed },
    socket: directory.file("socket"),
    workers: 2,
    logLevel: "error",
    signals: false,
  });
  const failure = assertRejects(() => server.finished, Error, "caught fire");
  using frontEnd = FrontEnd.connect(directory.file("socket"));
  await frontEnd.handshake();
  using region = SharedRegion.create(GUEST_ADDRESS, 0x1_0000);
  const memory = new FakeMemory([{
    guestAddress: GUEST_ADDRESS,
    bytes: region.bytes,
  }]);
  const drivers = [0, 1].map(() => new FakeDriver(memory, { size: 8 }));
  await frontEnd.start([region], new Map(drivers.entries()));
  // The second ring is that of the second Worker.
  drivers[1].submit([{ writable: 4 }]);
  frontEnd.events(1).kick.signal();
  await withDeadline(failure, 10_000, "the failure");
  assert(Deno.statSync(closed).isFile);
});

Deno.test("serve() takes a module by URL and by path", async () => {
  using directory = TemporaryDirectory.make("serve");
  const path = directory.file("device of a user.ts");
  Deno.writeTextFileSync(
    path,
    `export default () => ({
      deviceId: 4,
      features: 0n,
      queueCount: 1,
      maxSegments: 1,
      config: new Uint8Array(),
      serve: () => true,
      status: () => ({ from: "a user" }),
    });`,
  );
  const modules = [
    toFileUrl(path),
    toFileUrl(path).href,
    path,
    relative(Deno.cwd(), path),
  ];
  for (const device of modules) {
    await using server = await serve({
      device,
      socket: directory.file("socket"),
      logLevel: "error",
      signals: false,
    });
    const { device: status } = await server.status() as {
      device: { from: string };
    };
    assertEquals(status, { from: "a user" }, String(device));
  }
});

Deno.test("serve() says which module it has not found", async () => {
  using directory = TemporaryDirectory.make("serve");
  await assertRejects(
    () =>
      serve({
        device: "./no_such_device.ts",
        socket: directory.file("socket"),
        signals: false,
      }),
    DeviceError,
    resolve("no_such_device.ts"),
  );
});
