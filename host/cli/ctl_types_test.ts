import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { parseCommand } from "./command.ts";
import { CTL } from "./ctl_command.ts";
import { startVhostd, vhostd } from "./testing/vhostd.ts";
import { HostError } from "../error.ts";
import { watchBalloon } from "./watch_balloon.ts";

const READY = "Stop with Ctrl-C";
const LIMIT = 20_000;

Deno.test("what begins like a negative number is no option", () => {
  const { arguments: words, values } = parseCommand(CTL, [
    ...["balloon", "set", "-25%", "--wait"],
  ]);
  assertEquals(words, ["balloon", "set", "-25%"]);
  assertEquals(values, { wait: true });
});

Deno.test("ctl pulls the cable of a network device, and knows balloons", async () => {
  using directory = TemporaryDirectory.make("ctl");
  const cwd = directory.path;
  await using child = startVhostd([
    ...["serve", "--net", "backend=echo", "--balloon", "stats"],
  ], { cwd });
  await child.expect(READY, LIMIT, "stdout");
  const ctl = async (...args: string[]) => {
    const { code, stdout, stderr } = await vhostd(["ctl", ...args], { cwd });
    return code === 0 ? stdout : `${code} ${stderr}`;
  };
  assertEquals(await ctl("link", "down"), "net: the link is down\n");
  assertEquals(await ctl("link", "up", "net"), "net: the link is up\n");
  assertEquals(
    await ctl("link", "up", "balloon"),
    '1 vhostd: "balloon" is no virtio network device\n',
  );
  assertMatch(
    await ctl("balloon", "status"),
    /^balloon: the guest has 0 bytes of 0 bytes, .*\n {2}reclaimed: 0 bytes\n$/,
  );
  // There is no guest whose memory it could be.
  assertMatch(await ctl("balloon", "set", "1G"), /^1 vhostd: Cannot /);
  assertEquals(
    await ctl("lun", "add", "target=1,path=a.img"),
    "1 vhostd: There is no virtio SCSI host here\n",
  );
  // Neither is a disk.
  assertEquals(await ctl("resize", "all"), "There are no disks here\n");
  assertEquals((await child.stop()).code, 0);
});

Deno.test("watchBalloon() shows how far a balloon is, until it is there", async () => {
  const written: string[] = [];
  const sizes = [0, 256, 512, 512];
  const ask = () => {
    const actual = sizes.shift()! << 20;
    return Promise.resolve({
      name: "balloon",
      memory: 1 << 30,
      guestTarget: 512 << 20,
      target: 512 << 20,
      actual,
      reclaimed: actual,
      progress: actual / (512 << 20),
    });
  };
  const last = await watchBalloon(ask, {
    terminal: true,
    write: (text) => written.push(text.trimEnd()),
  });
  assertEquals((last as { actual: number }).actual, 512 << 20);
  assertEquals(sizes, [512]);
  assertEquals(written, [
    "\r[------------------------------] 0 bytes of 512 MiB",
    "\r[###############---------------] 256 MiB of 512 MiB",
    "\r[##############################] 512 MiB of 512 MiB",
    "",
  ]);
});

Deno.test("watchBalloon() does not wait for a guest that has left", async () => {
  const written: string[] = [];
  const guest = { memory: 1 << 30, actual: 256 << 20, progress: 0.5 };
  const gone = { memory: 0, actual: 0, progress: 0 };
  const states = [guest, gone];
  const ask = () =>
    Promise.resolve({
      name: "ball",
      guestTarget: 0,
      target: 512 << 20,
      reclaimed: 0,
      ...states.shift(),
    });
  await assertRejects(
    () => watchBalloon(ask, { terminal: true, write: (t) => written.push(t) }),
    HostError,
    'Cannot wait for "ball" any longer: its guest left before it had 512 MiB in the balloon',
  );
  assertEquals(written.length, 2);
  assertEquals(written[1], "\n");
});
