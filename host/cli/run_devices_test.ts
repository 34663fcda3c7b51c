import { assert, assertEquals, assertRejects } from "@std/assert";
import { Reactor } from "../../sys/reactor.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { waitUntil, withDeadline } from "../../tests/support/deadline.ts";
import { BLK } from "../device_types.ts";
import { Logger } from "../log.ts";
import { ManagementClient } from "../management/client.ts";
import { planDevices, type PlannedDevice } from "../options/device_specs.ts";
import { runDevices } from "./run_devices.ts";

Deno.test("runDevices() stops all devices when one fails", async () => {
  using directory = TemporaryDirectory.make("run");
  const image = directory.file("a.img");
  Deno.writeFileSync(image, new Uint8Array(1 << 16));
  const [good, bad] = planDevices(["good", "bad"].map((id) => ({
    subject: id,
    type: BLK,
    pairs: [
      ["id", id],
      ["path", image],
      ["share", true],
      ["socket", directory.file(`${id}.sock`)],
    ],
  })));
  const module = new URL("./testing/failing_device.ts", import.meta.url).href;
  const failing: PlannedDevice = { ...bad, spec: { ...bad.spec, module } };
  const management = directory.file("m.sock");
  const lines: string[] = [];
  const ready = Promise.withResolvers<void>();
  const run = runDevices([good, failing], {
    management,
    log: new Logger({ write: (line) => void lines.push(line) }),
    onReady: () => Promise.resolve(ready.resolve()),
  });
  await Promise.race([ready.promise, run]);

  using reactor = new Reactor();
  using client = ManagementClient.connect(management, reactor);
  await assertRejects(
    () => client.call("resize", { name: "bad" }),
    Error,
  );
  assertEquals(await withDeadline(run, 10_000, "the end of the run"), 1);
  assertEquals(
    [...Deno.readDirSync(directory.path)].map(({ name }) => name),
    ["a.img"],
  );
  assert(
    lines.some((line) =>
      /error Stopping: device failed: .*caught fire.* device=bad\n$/.test(line)
    ),
    lines.join(""),
  );
});

Deno.test("runDevices() tells of a device that does not answer", async () => {
  using directory = TemporaryDirectory.make("run");
  const image = directory.file("a.img");
  Deno.writeFileSync(image, new Uint8Array(1 << 16));
  const pipe = directory.file("pipe");
  await new Deno.Command("mkfifo", { args: [pipe] }).output();
  const [planned] = planDevices([{
    subject: "a",
    type: BLK,
    pairs: [["id", "a"], ["path", image], ["socket", directory.file("a.sock")]],
  }]);
  const module = new URL("./testing/failing_device.ts", import.meta.url).href;
  const spec = { ...planned.spec, module, options: { pipe } };
  const management = directory.file("m.sock");
  const ready = Promise.withResolvers<void>();
  const run = runDevices([{ ...planned, spec }], {
    management,
    log: new Logger({ write() {} }),
    onReady: () => ready.resolve(),
    statusLimit: 100,
  });
  await Promise.race([ready.promise, run]);

  using reactor = new Reactor();
  using client = ManagementClient.connect(management, reactor);
  using other = ManagementClient.connect(management, reactor);
  const problem = async () => {
    const { devices } = await other.call("status") as {
      devices: { state: string; problem: string | null }[];
    };
    return devices[0].problem;
  };
  assertEquals(await problem(), null);
  const resized = client.call("resize", { name: "a" });
  await waitUntil(async () => await problem() === "No answer in 100 ms", {
    what: "silence",
  });
  await Deno.writeFile(pipe, new Uint8Array(7));
  assertEquals(await withDeadline(resized, 10_000, "the answer"), {
    devices: [{ name: "a", capacity: 7, previousCapacity: 0 }],
  });
  assertEquals(await problem(), null);
  Deno.kill(Deno.pid, "SIGTERM");
  assertEquals(await withDeadline(run, 10_000, "the end of the run"), 0);
});
