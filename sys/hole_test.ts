import { assertEquals } from "@std/assert";
import { Errno } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { punchHole } from "./hole.ts";
import { mapFile } from "./mapping.ts";
import { addSeals, createMemfd, F_SEAL_WRITE } from "./memfd.ts";
import { statFd } from "./statx.ts";

const PAGE = 4096;

Deno.test("a hole reads as zeros and takes no space, its neighbours stay", () => {
  using memfd = createMemfd("hole", 4 * PAGE);
  using mapping = mapFile(memfd.fd, { size: 4 * PAGE });
  const bytes = new Uint8Array(mapping.buffer).fill(7);
  assertEquals(statFd(memfd.fd).blocks, 32);
  assertEquals(punchHole(memfd.fd, PAGE, 2 * PAGE), 0);
  const { blocks, size } = statFd(memfd.fd);
  assertEquals([blocks, size], [16, 4 * PAGE]);
  assertEquals([0, 1, 2, 3].map((page) => bytes[page * PAGE]), [7, 0, 0, 7]);
  assertEquals([PAGE - 1, 3 * PAGE].map((at) => bytes[at]), [7, 7]);
});

Deno.test("offsets and lengths beyond 4 GiB are what they say", () => {
  const far = 5 * 2 ** 32;
  using memfd = createMemfd("hole", far + 2 * PAGE);
  using mapping = mapFile(memfd.fd, { offset: far, size: 2 * PAGE });
  const bytes = new Uint8Array(mapping.buffer).fill(7);
  assertEquals(punchHole(memfd.fd, far + PAGE, PAGE), 0);
  assertEquals([bytes[0], bytes[PAGE]], [7, 0]);
  assertEquals(punchHole(memfd.fd, 0, far + 2 * PAGE), 0);
  assertEquals(statFd(memfd.fd).blocks, 0);
  assertEquals(bytes[0], 0);
});

Deno.test("what has no space to give says so", () => {
  using event = EventFd.create();
  assertEquals(punchHole(event.fd, 0, PAGE), -Errno.ENODEV);
  assertEquals(punchHole(-1, 0, PAGE), -Errno.EBADF);
  using memfd = createMemfd("hole", PAGE);
  assertEquals(punchHole(memfd.fd, 0, 0), -Errno.EINVAL);
  addSeals(memfd.fd, F_SEAL_WRITE);
  assertEquals(punchHole(memfd.fd, 0, PAGE), -Errno.EPERM);
});
