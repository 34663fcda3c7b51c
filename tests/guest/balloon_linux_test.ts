import { assert, assertEquals } from "@std/assert";
import { waitUntil } from "../support/deadline.ts";
import { longOnly, skipUnless } from "../support/skip.ts";
import { GuestBalloon, memorySpace } from "./balloons.ts";
import { type LinuxGuest, startLinuxGuest } from "./rig/linux_guest.ts";
import type { LinuxVersion } from "./rig/guest_image.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
/** Memory of the guests, in MiB. */
const MEMORY = 512;

/** Feature bits of the driver, as sysfs shows them. */
const FEATURES = "cat /sys/bus/virtio/devices/virtio0/features";

/** Starts a program that compares its own data, over and over. */
const START_PROGRAM = "dd if=/dev/urandom of=/tmp/one bs=1M count=12 " +
  "2>/dev/null && cp /tmp/one /tmp/two && sha256sum < /tmp/one > /tmp/sum && " +
  "(while :; do cmp /tmp/one /tmp/two || echo > /tmp/bad; " +
  "echo >> /tmp/rounds; [ ! -e /tmp/stop ] || break; done; " +
  "echo > /tmp/stopped) > /dev/null 2>&1 &";

/** Ends it; how often it compared. */
const STOP_PROGRAM =
  "touch /tmp/stop; i=0; while [ ! -e /tmp/stopped ] && [ $i -lt 300 ]; do " +
  "sleep 0.1; i=$((i+1)); done; [ -e /tmp/stopped ] && [ ! -e /tmp/bad ] && " +
  "sha256sum < /tmp/one | cmp - /tmp/sum && wc -l < /tmp/rounds";

/** Makes the guest use so many MiB, and gives them back. */
async function touchMemory(guest: LinuxGuest, mib: number): Promise<void> {
  await guest.check(
    `dd if=/dev/zero of=/tmp/big bs=1M count=${mib} 2>/dev/null && rm /tmp/big`,
    60_000,
  );
}

/** Statistics of Linux 6.1 beside free and total memory. */
const STATISTICS = [
  "availableMemory",
  "diskCaches",
  "hugetlbAllocations",
  "hugetlbFailures",
  "majorFaults",
  "minorFaults",
  "swapIn",
  "swapOut",
];
/** What Linux 6.12 has besides. */
const NEW_STATISTICS = [
  "allocationStalls",
  "asyncReclaims",
  "asyncScans",
  "directReclaims",
  "directScans",
  "oomKills",
];

/** Moves the balloon while a program checks its own data. */
async function moveBackAndForth(
  linux: LinuxVersion,
  statistics: readonly string[],
): Promise<void> {
  await using balloon = await GuestBalloon.start({ pageReporting: false });
  await using guest = await startLinuxGuest({
    linux,
    memory: MEMORY,
    devices: balloon.devices,
  });
  const features = await guest.check(FEATURES);
  // MUST_TELL_HOST, STATS_VQ, DEFLATE_ON_OOM; no poison without init_on_free.
  assertEquals(features.slice(0, 6), "111000");
  assertEquals(features[32], "1");
  const space = (): number => memorySpace(guest.qemu);
  await guest.check(START_PROGRAM);
  for (let round = 0; round < 5; round++) {
    await touchMemory(guest, 180);
    const full = space();
    assert(full > 180 * MIB, `${full} bytes after 180 MiB were written`);
    const target = await balloon.move("25%");
    assertEquals(target, MEMORY * 0.75 * MIB);
    const { actual, reclaimed, progress } = await balloon.status();
    assertEquals([actual, reclaimed, progress], [target, target, 1]);
    const left = space();
    assert(left <= MEMORY * 0.25 * MIB, `${left} bytes beside the balloon`);
    assert(left < full - 100 * MIB, `${full}, then ${left}`);
    await balloon.move("100%");
    assertEquals((await balloon.status()).reclaimed, 0);
  }
  assert(Number(await guest.check(STOP_PROGRAM, 60_000)) > 5);

  const { freeMemory, totalMemory, ...rest } = await balloon.stats();
  assert(freeMemory > 100 * MIB && totalMemory < MEMORY * MIB);
  assert(totalMemory > freeMemory);
  assertEquals(Object.keys(rest).sort(), statistics);
  await touchMemory(guest, 100);
  const later = await balloon.stats();
  assert(later.minorFaults > rest.minorFaults, "these are not new");

  const { requests } = await balloon.status();
  assertEquals(requests.inflatedPages, 5 * MEMORY * 0.75 * 256);
  assertEquals(requests.deflatedPages, requests.inflatedPages);
  assertEquals([requests.badPages, requests.refused, requests.errors], [
    0,
    {},
    {},
  ]);
  assertEquals(await guest.powerOff(), 0);
}

/** Frees memory, and then needs more than the balloon leaves. */
async function reportAndGiveWay(linux: LinuxVersion): Promise<void> {
  await using balloon = await GuestBalloon.start();
  await using guest = await startLinuxGuest({
    linux,
    memory: MEMORY,
    devices: balloon.devices,
  });
  assertEquals((await guest.check(FEATURES)).slice(0, 6), "111001");
  const space = (): number => memorySpace(guest.qemu);
  await guest.check("dd if=/dev/zero of=/tmp/big bs=1M count=200 2>/dev/null");
  const full = space();
  assert(full > 200 * MIB);
  assertEquals((await balloon.status()).reclaimed, 0);
  await guest.check("rm /tmp/big");
  await waitUntil(() => space() < full - 150 * MIB, {
    what: "the pages of a removed file to be reported",
    timeout: 30_000,
  });
  assertEquals((await balloon.status()).reclaimed, 0);

  await guest.check(START_PROGRAM);
  const target = await balloon.move("22%");
  // More than is left: the balloon has to give way.
  await guest.check(
    "dd if=/dev/zero of=/tmp/big bs=1M count=150 2>/dev/null",
    60_000,
  );
  await waitUntil(async () => (await balloon.status()).actual < target, {
    what: "the driver to say that it took pages back",
  });
  const { actual, reclaimed, requests } = await balloon.status();
  assertEquals(reclaimed, actual);
  assert(actual < target - 16 * MIB, `${actual} of ${target}`);
  assertEquals(requests.errors, {});
  assertEquals(
    await guest.check("dmesg | grep -c 'Killed process' || true"),
    "0",
  );
  assertEquals(
    await guest.check("tr -d '\\000' < /tmp/big | wc -c", 60_000),
    "0",
  );
  assert(Number(await guest.check(STOP_PROGRAM, 60_000)) > 0);
  assertEquals(await guest.powerOff(), 0);
}

guests.test("Linux: 75 % of memory and back, 5 times, under a program that checks its data", () =>
  moveBackAndForth("6.1", STATISTICS));

guests.test("Linux: free pages are reported, and the balloon gives way before the OOM killer", () =>
  reportAndGiveWay("6.1"));

const long = reason === null ? longOnly() : guests;

long.test("Linux 6.12: 75 % of memory and back, 5 times, and 16 statistics", () =>
  moveBackAndForth("6.12", [...STATISTICS, ...NEW_STATISTICS].sort()));

long.test("Linux 6.12: free pages are reported, and the balloon gives way", () =>
  reportAndGiveWay("6.12"));

guests.test("Linux: 2 reboots while inflated", async () => {
  await using balloon = await GuestBalloon.start({ size: 64 * MIB });
  await using guest = await startLinuxGuest({
    memory: 384,
    reboot: true,
    devices: balloon.devices,
  });
  await balloon.settled();
  assertEquals((await balloon.status()).actual, 64 * MIB);
  for (let i = 0; i < 2; i++) {
    const target = await balloon.move("50%");
    assertEquals(target, 192 * MIB);
    await guest.reboot();
    await balloon.settled();
    const { actual, reclaimed } = await balloon.status();
    assertEquals([actual, reclaimed], [target, target]);
    await guest.check(START_PROGRAM);
    await balloon.move("75%");
    assert(Number(await guest.check(STOP_PROGRAM, 60_000)) > 0);
    assertEquals((await balloon.status()).reclaimed, 96 * MIB);
  }
  await balloon.move("100%");
  const { requests } = await balloon.status();
  assertEquals([requests.badPages, requests.errors], [0, {}]);
  assertEquals(await guest.powerOff(), 0);
});

guests.test("Linux: no feature but the balloon itself", async () => {
  await using balloon = await GuestBalloon.start({
    pageReporting: false,
    pagePoison: false,
    stats: false,
    deflateOnOom: false,
    mustTellHost: false,
  });
  await using guest = await startLinuxGuest({
    memory: 256,
    devices: balloon.devices,
  });
  assertEquals((await guest.check(FEATURES)).slice(0, 6), "000000");
  await balloon.move("50%");
  assertEquals((await balloon.status()).reclaimed, 128 * MIB);
  await balloon.move("100%");
  assertEquals(await guest.powerOff(), 0);
});

// Debian's kernels have no CONFIG_PAGE_POISONING: a poison that is not zero is
// the business of tests/protocol/balloon_test.ts.
guests.test("Linux: free pages that are poisoned with zeroes are found zeroed", async () => {
  await using balloon = await GuestBalloon.start();
  await using guest = await startLinuxGuest({
    memory: 384,
    append: "init_on_free=1",
    devices: balloon.devices,
  });
  assertEquals((await guest.check(FEATURES)).slice(0, 6), "111011");
  assertEquals((await balloon.status()).poison, 0);
  await touchMemory(guest, 100);
  const { reportedBytes } = (await balloon.status()).requests;
  await waitUntil(
    async () =>
      (await balloon.status()).requests.reportedBytes >
        reportedBytes + 50 * MIB,
    { what: "free pages to be reported", timeout: 30_000 },
  );
  assertEquals((await balloon.status()).requests.keptBytes, 0);
  await guest.check(START_PROGRAM);
  await touchMemory(guest, 100);
  await balloon.move("60%");
  await balloon.move("100%");
  assert(Number(await guest.check(STOP_PROGRAM, 60_000)) > 0);
  assertEquals(await guest.powerOff(), 0);
});
