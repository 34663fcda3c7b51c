/**
 * The release of FreeBSD that tests fetch where nothing else is given: the one
 * place that names it.
 *
 * @module
 */

/** A release, and where its images are. */
export interface FreeBsdImages {
  /** `uname -r`. */
  readonly release: string;
  /** The folder of the images and of their checksums. */
  readonly folder: string;
  /** The file of checksums there, in the form of sha512(1). */
  readonly checksums: string;
  /** Images that serve; the first one that the checksums name is taken. */
  readonly files: readonly string[];
}

const RELEASE = "15.0-RELEASE";

/**
 * The images for continuous integration: a serial console, and root without a
 * password. The second name is that of releases with one file system alone.
 *
 * Names, folders and checksums are those of `release/Makefile.vm`
 * (`cloud-install-BASIC-CI`) and `release/Makefile.mirrors` (`ci-images-stage`),
 * the console that of `release/tools/basic-ci.conf`.
 */
export const FREEBSD_IMAGES: FreeBsdImages = {
  release: RELEASE,
  folder:
    `https://download.freebsd.org/releases/CI-IMAGES/${RELEASE}/amd64/Latest/`,
  checksums: "CHECKSUM.SHA512",
  files: [
    `FreeBSD-${RELEASE}-amd64-BASIC-CI-ufs.raw.xz`,
    `FreeBSD-${RELEASE}-amd64-BASIC-CI.raw.xz`,
  ],
};
