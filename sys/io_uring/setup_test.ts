import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "../errno.ts";
import { openFdCount } from "../fd.ts";
import {
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SUBMIT_ALL,
} from "./constants.ts";
import { IoUring } from "./io_uring.ts";
import { requireFeatures, setUpRing } from "./setup.ts";
import { uring } from "./testing/test_ring.ts";

const UNKNOWN_FLAG = 0x4000_0000;

uring.test("flags that the kernel does not know are left out", () => {
  using ring = new IoUring({ flags: IORING_SETUP_SUBMIT_ALL | UNKNOWN_FLAG });
  assertEquals(ring.flags & (IORING_SETUP_SUBMIT_ALL | UNKNOWN_FLAG), 0);
  using other = new IoUring({ flags: 0 });
  assertEquals(other.flags & IORING_SETUP_SINGLE_ISSUER, 0);
});

uring.test("a ring that cannot be had is an error, and leaves nothing open", () => {
  const before = openFdCount();
  const error = assertThrows(
    () => setUpRing({ entries: 0, completions: 8 }),
    SystemError,
    "Cannot set up an io_uring: Invalid argument (EINVAL)",
  );
  assertEquals(error.kind, "EINVAL");
  assertEquals(openFdCount(), before);
});

Deno.test("a kernel that is too old is refused, and says so", () => {
  // Linux 5.10 has everything up to EXT_ARG, 5.13 has RSRC_TAGS.
  const LINUX_5_10 = 0x7f, LINUX_5_11 = 0x1ff, LINUX_5_13 = 0x7ff;
  for (const features of [0, LINUX_5_10, LINUX_5_11]) {
    const error = assertThrows(() => requireFeatures(features), SystemError);
    assertEquals(error.kind, "ENOSYS");
    assert(error.message.includes(`features 0x${features.toString(16)}`));
    assert(error.message.endsWith("should be that of Linux 5.13 or later"));
  }
  requireFeatures(LINUX_5_13);
});
