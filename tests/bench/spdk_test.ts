import {
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import type { Load } from "./clients.ts";
import {
  bdevperfArguments,
  clientConfig,
  findSpdk,
  freeHugeMemory,
  HUGE_MEMORY,
  parseBdevperf,
  requireHugePages,
  targetConfig,
} from "./spdk_peer.ts";

Deno.test("without SPDK it is said which program is missing, and how to get it", async () => {
  using directory = TemporaryDirectory.make("spdk");
  const missing = await assertRejects(() => findSpdk(directory.path), Error);
  assertStringIncludes(missing.message, `"${directory.path}/build/bin/vhost"`);
  assertStringIncludes(missing.message, "./configure && make");
  const make = (name: string, script: string) => {
    const path = directory.file(`build/${name}`);
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(path, `#!/bin/sh\n${script}\n`);
    Deno.chmodSync(path, 0o755);
    return path;
  };
  const vhost = make("bin/vhost", "echo SPDK v23.01");
  const half = await assertRejects(() => findSpdk(directory.path), Error);
  assertStringIncludes(half.message, "build/examples/bdevperf");
  const bdevperf = make("examples/bdevperf", "");
  const found = { vhost, bdevperf, version: "v23.01" };
  assertEquals(await findSpdk(directory.path), found);
  make("bin/vhost", "echo librte_eal.so.23: not found >&2; exit 127");
  const broken = await assertRejects(() => findSpdk(directory.path), Error);
  assertStringIncludes(broken.message, "librte_eal.so.23: not found");
  assertStringIncludes(broken.message, "LD_LIBRARY_PATH");
});

Deno.test("huge pages that are free are counted, of all sizes", () => {
  using directory = TemporaryDirectory.make("spdk");
  for (const [size, free] of [[2048, 3], [1_048_576, 1]]) {
    const folder = directory.file(`hugepages-${size}kB`);
    Deno.mkdirSync(folder);
    Deno.writeTextFileSync(`${folder}/free_hugepages`, `${free}\n`);
  }
  assertEquals(freeHugeMemory(directory.path), (6 << 20) + 2 ** 30);
});

Deno.test("too few huge pages, and no place for them, are refused with what to do", () => {
  const enough = HUGE_MEMORY * 2 ** 20;
  const mounted = "none /dev/hugepages hugetlbfs rw 0 0\n";
  const refused = (free: number, mounts: string) =>
    assertThrows(() => requireHugePages(free, mounts), Error).message;
  requireHugePages(enough, `proc /proc proc rw 0 0\n${mounted}`);
  assertStringIncludes(refused(enough - 1, mounted), "799 MiB are");
  assertStringIncludes(refused(0, mounted), "> /proc/sys/vm/nr_hugepages");
  assertStringIncludes(refused(enough, "hugetlbfs /x tmpfs\n"), "mount -t");
});

Deno.test("the configuration of SPDK's vhost has a disk and a socket", () => {
  const disk = { size: 64 << 20, socket: "/run/bench/1.sock" };
  for (
    const [medium, method] of [
      ["null", "bdev_null_create"],
      ["memory", "bdev_malloc_create"],
    ] as const
  ) {
    assertEquals(targetConfig({ medium, ...disk }), {
      subsystems: [
        {
          subsystem: "bdev",
          config: [
            {
              method,
              params: { name: "disk", num_blocks: 131_072, block_size: 512 },
            },
            { method: "bdev_wait_for_examine" },
          ],
        },
        {
          subsystem: "vhost_blk",
          config: [{
            method: "vhost_create_blk_controller",
            params: { ctrlr: "1.sock", dev_name: "disk" },
          }],
        },
      ],
    });
  }
});

Deno.test("bdevperf is told of the socket and of the load", () => {
  const config = JSON.stringify(clientConfig("/run/bench/1.sock"));
  assertStringIncludes(config, '"traddr":"/run/bench/1.sock"');
  assertStringIncludes(config, '"dev_type":"blk"');
  const load: Load = {
    ...{ operation: "write", pattern: "scattered", blockSize: 4096 },
    ...{ depth: 32, mode: "poll", verify: false },
  };
  assertEquals(bdevperfArguments(load, 3), [
    ...["-q", "32", "-o", "4096", "-w", "randwrite", "-t", "3"],
  ]);
  const sequential = { ...load, pattern: "sequential" } as const;
  assertEquals(bdevperfArguments(sequential, 3)[5], "write");
});

Deno.test("the total that bdevperf prints, and requests that failed", () => {
  const output = (total: string) =>
    "Running I/O for 1 seconds...\n" +
    "\r Device Information : runtime(s) IOPS MiB/s Fail/s TO/s Average\n" +
    "\t disk                : 1.00 100.00 0.39 0.00 0.00 1.00 1.00 1.00\n" +
    "\r =====\n" +
    `\r Total                        :            ${total}\n`;
  assertEquals(parseBdevperf(output("2270000.12 8867.19 0.00 0.00 0.4")), {
    iops: 2_270_000.12,
    failed: 0,
  });
  const { failed } = parseBdevperf(output("100.00   0.39   2.00   1.50 0.4"));
  assertEquals(failed, 3.5);
  const none = assertThrows(() => parseBdevperf("no such bdev\n"), Error);
  assertStringIncludes(none.message, "no such bdev");
});
