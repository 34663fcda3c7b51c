import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import { startVhostd, vhostd } from "./testing/vhostd.ts";

Deno.test("ctl asks a server for its status and resizes its disks", async () => {
  using directory = TemporaryDirectory.make("ctl");
  const cwd = directory.path;
  for (const name of ["a.img", "b.img"]) {
    Deno.writeFileSync(directory.file(name), new Uint8Array(1 << 16));
  }
  await using child = startVhostd(
    ["serve", "--blk=path=a.img", "--blk=path=b.img,id=data"],
    { cwd },
  );
  await child.expect("Stop with Ctrl-C", 20_000, "stdout");
  const ctl = async (...args: string[]) => {
    const { code, stdout, stderr } = await vhostd(["ctl", ...args], { cwd });
    assertEquals([code, stderr], [0, ""]);
    return stdout;
  };

  const idle = await ctl("status");
  assertMatch(idle, /^vhostd \d+\.\d+\.\d+, pid \d+, running for \d+ s\n/);
  assertStringIncludes(
    idle,
    "\n\nblk (blk) on ./vhostd-data/blk.sock: no front-end is connected\n",
  );
  assertStringIncludes(idle, "\n  capacity: 65536\n");
  assertStringIncludes(idle, "\n    path: a.img\n");
  assertStringIncludes(idle, "\n\ndata (blk) on ./vhostd-data/data.sock: ");

  const frontEnd = FrontEnd.connect(directory.file("vhostd-data/data.sock"));
  await frontEnd.handshake();
  await frontEnd.setFeatures(frontEnd.features);
  await frontEnd.getStatus();
  const { devices: [data] } = JSON.parse(await ctl("status", "data", "--json"));
  assertEquals([data.name, data.connected, data.connections], [
    "data",
    true,
    1,
  ]);
  assertStringIncludes(data.session.featureNames.join(), "FLUSH");
  assertStringIncludes(data.session.featureNames.join(), "VERSION_1");
  assertStringIncludes(data.session.protocolFeatures.join(), "CONFIG");
  const numbers = (await ctl("metrics")).trimEnd().split("\n");
  assert(
    numbers.includes('vhostd_device_connections{device="data",type="blk"} 1'),
  );
  assert(
    numbers.includes('vhostd_blk_capacity{device="blk",type="blk"} 65536'),
  );
  for (const line of numbers) {
    assertMatch(line, /^vhostd_[a-z0-9_]+(\{([a-z]+="[^"]*",?)+\})? [\d.]+$/);
  }
  const busy = await ctl("status", "data");
  assertStringIncludes(busy, "data.sock: a front-end is connected\n");
  assertMatch(busy, /\n {2}features: .*SEG_MAX .*VERSION_1 ORDER_PLATFORM\n/);
  assertMatch(busy, /\n {2}protocol features: .*MQ/);
  frontEnd.close();

  Deno.truncateSync(directory.file("b.img"), 1 << 20);
  assertEquals(await ctl("resize", "data"), "data: 1 MiB, was 64 KiB\n");
  assertEquals(
    await ctl("resize", "all"),
    "blk: 64 KiB, as before\ndata: 1 MiB, as before\n",
  );
  assertEquals(await ctl("resume", "all"), "blk: goes on\ndata: goes on\n");
  const document = JSON.parse(await ctl("call", "rpc.discover"));
  assertEquals(
    document.methods.map(({ name }: { name: string }) => name),
    [
      ...["rpc.discover", "status", "resize", "resume", "link"],
      ...["balloon.set", "balloon.status", "balloon.stats"],
      ...["lun.add", "lun.remove", "lun.resize", "lun.change-medium"],
    ],
  );
  const { devices: [first] } = JSON.parse(
    await ctl("call", "status", '{"name":"blk"}'),
  );
  assertEquals(first.name, "blk");
  const { result } = document.methods
    .find(({ name }: { name: string }) => name === "status");
  const described = result.schema.properties.devices.items.properties;
  assertEquals(
    Object.keys(first).filter((key) => described[key] === undefined),
    [],
  );

  const refused = await vhostd(["ctl", "resize", "dta"], { cwd });
  assertEquals([refused.code, refused.stderr], [
    1,
    'vhostd: There is no device "dta" (did you mean "data"?)\n',
  ]);
  assertEquals((await child.stop()).code, 0);
  assertEquals(
    [...Deno.readDirSync(cwd)].map(({ name }) => name).sort(),
    ["a.img", "b.img"],
  );
});
