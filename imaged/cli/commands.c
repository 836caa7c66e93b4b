/* SPDX-License-Identifier: Apache-2.0 */
#include "common/util.h"
#include "imaged/cli/cli.h"

/* The one table of what `wherry` can do; the help, the manual page and the completion are made from it. */

#define NO_WAIT                                                                                             \
        {                                                                                                   \
                "--no-wait", 0, NULL, NULL, "return at once, without waiting for the outcome"               \
        }
#define TIMEOUT(seconds)                                                                                    \
        {                                                                                                   \
                "--timeout", 0, "SECONDS", seconds, "how long to wait for the outcome"                      \
        }
#define QUIET                                                                                               \
        {                                                                                                   \
                "--quiet", 'q', NULL, NULL, "print names only, one a line"                                  \
        }
#define OPTIONS(list) .options = list, .n_options = ARRAY_SIZE(list)

const struct cli_option cli_common_options[] = {
    {"--url", 0, "URL", NULL, "the server, http://HOST:PORT"},
    {"--token-file", 0, "FILE", NULL, "file that holds the server's token"},
    {"--json", 0, NULL, NULL, "print one JSON document, for programs"},
    {"--help", 'h', NULL, NULL, "print the command's help"},
};
const size_t cli_n_common_options = ARRAY_SIZE(cli_common_options);

static const struct cli_option image_add[] = {
    {"--name", 0, "NAME", NULL, "the image's name; default: the file's name without its ending"},
    {"--os", 0, "OS", NULL, "operating system: debian, windows; default: what the server finds on it"},
    {"--version", 0, "VERSION", NULL, "its version: 12, 2022; the same"},
    {"--format", 0, "FORMAT", NULL,
     "raw, qcow2, iso, vmdk, vdi, vhd, vhdx or ova; default: found from the content, for a URL from its "
     "ending"},
    {"--checksum", 0, "CHECKSUM", NULL,
     "sha256:HEX or sha512:HEX of the file as it is given; another file is refused"},
    {"--from-store", 0, NULL, NULL,
     "it is a volume on the server's storage: a file in the store's folder \"import\", or on Ceph "
     "[POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]; default format: raw, where its ending is none"},
    TIMEOUT("3600"),
};

static const struct cli_option image_capture[] = {
    {"--name", 0, "NAME", NULL, "the image's name"},
    {"--os", 0, "OS", NULL, "operating system: debian, windows"},
    {"--version", 0, "VERSION", NULL, "its version: 12, 2022"},
    TIMEOUT("3600"),
};

#define DECLARED                                                                                            \
        {                                                                                                   \
                "--format", 0, "FORMAT", NULL, "what it has to be; another format is a reason to refuse it" \
        }

static const struct cli_option image_inspect[] = {
    {"--quick", 0, NULL, NULL, "look at the headers only: finds what is wrong there, proves nothing"},
    DECLARED,
};
static const struct cli_option image_convert[] = {DECLARED};

static const struct cli_option quiet[] = {QUIET};

static const struct cli_option image_list[] = {
    QUIET,
    {"--deleted", 0, NULL, NULL, "those that are deleted and can still be undeleted"},
};

static const struct cli_option image_verify[] = {
    {"--rate", 0, "SIZE", "100M", "how much the server reads in a second, at least 1M"},
};

static const struct cli_option image_save[] = {
    {"--format", 0, "FORMAT", NULL, "raw or qcow2; default: qcow2 where FILE ends in .qcow2, else raw"},
};

static const struct cli_option image_rm[] = {
    {"--now", 0, NULL, NULL, "for good; also one that is deleted already, by its id"},
};

static const struct cli_option image_set[] = {
    {"--name", 0, "NAME", NULL, "another name"},
    {"--os", 0, "OS", NULL, "operating system: debian, windows"},
    {"--version", 0, "VERSION", NULL, "its version: 12, 2022"},
    {"--min-ram", 0, "SIZE", NULL, "the least memory of an instance; 0: any"},
    {"--min-disk", 0, "SIZE", NULL, "the least disk of an instance; 0: any"},
    {"--property", 0, "NAME=VALUE", NULL, "a property, several times"},
    {"--unset", 0, "NAME", NULL, "remove a property, several times"},
    {"--tag", 0, "TAG", NULL, "add a tag, several times"},
    {"--untag", 0, "TAG", NULL, "remove a tag, several times"},
    {"--visibility", 0, "WHO", NULL, "private, shared (with accounts), community or public"},
    {"--protect", 0, NULL, NULL, "it cannot be removed"},
    {"--unprotect", 0, NULL, NULL, "it can"},
    {"--hide", 0, NULL, NULL, "leave it out of lists and aliases"},
    {"--unhide", 0, NULL, NULL, "show it in them"},
};

#define PASSWORD_FILE                                                                                       \
        {                                                                                                   \
                "--password-file", 0, "FILE", NULL,                                                         \
                    "file that holds the password; default: asked for, or standard input"                   \
        }

static const struct cli_option account_add[] = {
    {"--role", 0, "ROLE", "member", "member, or admin for everything"},
    {"--quota", 0, "SIZE", NULL, "how large its images may be together; default: no limit"},
    PASSWORD_FILE,
};

static const struct cli_option account_set[] = {
    {"--role", 0, "ROLE", NULL, "member, or admin for everything"},
    {"--quota", 0, "SIZE", NULL,
     "how large its images may be together; those it has stay, also beyond that"},
    {"--no-quota", 0, NULL, NULL, "no limit any more"},
};

static const struct cli_option account_password[] = {PASSWORD_FILE};

static const struct cli_option run[] = {
    {"--name", 0, "NAME", NULL, "the instance's name; default: made from the image's"},
    {"--cpus", 0, "N", "1", "processor cores"},
    {"--memory", 0, "SIZE", NULL, "memory; default: 512M, or what the image needs where that is more"},
    {"--disk", 0, "SIZE", NULL,
     "disk; default: 10G, or the image's size, or what it needs, where that is more"},
    {"--ssh-key", 0, "FILE", NULL, "public key that may log in, several times; default: ~/.ssh/id_*.pub"},
    {"--user-data", 0, "FILE", NULL, "cloud-init user data"},
    {"--host", 0, "HOST", NULL, "name or number of the host; default: the planner picks one"},
    {"--priority", 0, "N", "0", "a higher one is restarted first after a host's death"},
    {"--group", 0, "GROUP", NULL, "no two instances of one group are ever on the same host"},
    {"--iso", 0, NULL, NULL,
     "IMAGE is an installer: an empty disk, and the ISO in the drive (found out by itself)"},
    {"--wait", 0, NULL, NULL, "wait until it runs (the default)"},
    NO_WAIT,
    TIMEOUT("120"),
};

static const struct cli_option show[] = {
    {"--history", 0, NULL, NULL, "every failover with its receipt, and what else happened to it"},
};

static const struct cli_option failovers[] = {
    {"--since", 0, "TIME", NULL, "from then on: 30m, 2h, 7d ago, or a date and time, 2026-01-31T12:00"},
    {"--host", 0, "HOST", NULL, "only those from or to this host"},
};

static const struct cli_option wait_only[] = {NO_WAIT, TIMEOUT("120")};

static const struct cli_option forced[] = {
    {"--force", 0, NULL, NULL, "without asking the guest, like pulling the plug"},
    NO_WAIT,
    TIMEOUT("120"),
};

static const struct cli_option moving[] = {NO_WAIT, TIMEOUT("3600")};

static const struct cli_option events[] = {
    {"--follow", 'f', NULL, NULL, "go on and print events as they happen; with --json one a line"},
};

const struct cli_command cli_commands[] = {
    {"image add", "FILE|URL|VOLUME", "import a disk image or an ISO",
     "A file is checked and converted here, and only its data is sent; an image that is not safe is refused "
     "with every reason. Where the server or the line to it is lost in the middle, the command waits, up "
     "to three minutes, and goes on with what its store holds. The server fetches a URL by itself. With "
     "--from-store it reads a volume that lies on its own storage already: never writes to it, and takes "
     "none that somebody has open for writing or changes meanwhile (of an RBD image in use name a "
     "snapshot). For administrators. Ctrl-C ends the import and removes the image.",
     OPTIONS(image_add), 1, 1, cmd_image_add},
    {"image capture", "INSTANCE", "make an image of a stopped instance's disk",
     "The whole disk as the guest left it, of its own and without the image it was made from. The instance "
     "stays stopped and goes on as before; a start in the middle is not held up, but ends the capture with "
     "an error. What the guest keeps on its disk (keys, host names, logs) is in the image, too. Ctrl-C ends "
     "it and removes the image.",
     OPTIONS(image_capture), 1, 1, cmd_image_capture},
    {"image inspect", "FILE", "show what an image is, and whether it is safe",
     "Works without a server. Shows the header's fields, which system is on it as far as that can be told, "
     "and every reason to refuse the image: its field, the value found and the limit. The exit status is 0 "
     "if it is safe, 2 if it is refused, 1 if it cannot "
     "be read.",
     OPTIONS(image_inspect), 1, 1, cmd_image_inspect, .offline = true},
    {"image convert", "FILE OUT", "convert an image into a sparse raw disk",
     "Works without a server, with the checks of an import. OUT must not exist yet; Ctrl-C removes it.",
     OPTIONS(image_convert), 2, 2, cmd_image_convert, .offline = true},
    {"image list", "", "list the images", NULL, OPTIONS(image_list), 0, 0, cmd_image_list},
    {"image show", "IMAGE", "show one image", NULL, NULL, 0, 1, 1, cmd_image_show},
    {"image set", "IMAGE", "change an image's name, properties, tags or visibility",
     "Also corrects what was found on it by itself: --os, --version, --min-ram, --min-disk, and the "
     "properties "
     "os_type, architecture and hw_firmware_type (bios or uefi).",
     OPTIONS(image_set), 1, 1, cmd_image_set},
    {"image save", "IMAGE FILE", "save an image as a file",
     "As a sparse raw disk, or as a qcow2 image without its zeros. FILE must not exist yet; Ctrl-C removes "
     "it.",
     OPTIONS(image_save), 2, 2, cmd_image_save},
    {"image verify", "IMAGE", "read an image on the store and compare it with what was added",
     "The server reads it at a bounded rate and compares each 4 MiB with the checksum that was made when "
     "the "
     "image was added; what is damaged is named by offset and length. Ctrl-C ends it. Exit status: 0 it is "
     "as "
     "it was, 1 it is not, or that could not be found out.",
     OPTIONS(image_verify), 1, 1, cmd_image_verify},
    {"image share", "IMAGE ACCOUNT", "let an account see and use an image",
     "Its visibility has to be shared, which is the default.", NULL, 0, 2, 2, cmd_image_share},
    {"image unshare", "IMAGE ACCOUNT", "end that", NULL, NULL, 0, 2, 2, cmd_image_unshare},
    {"image deactivate", "IMAGE", "let nothing new be made of an image", NULL, NULL, 0, 1, 1,
     cmd_image_deactivate},
    {"image reactivate", "IMAGE", "end that", NULL, NULL, 0, 1, 1, cmd_image_reactivate},
    {"image rm", "IMAGE", "remove an image",
     "It is out of sight at once. Its data stays while \"wherry image undelete\" can bring it back (a day, "
     "where the "
     "server is not set otherwise), and while instances use it; they go on.",
     OPTIONS(image_rm), 1, 1, cmd_image_rm},
    {"image undelete", "IMAGE", "bring a removed image back", NULL, NULL, 0, 1, 1, cmd_image_undelete},
    {"account add", "NAME", "add an account, for the image API's clients",
     "Members see public images and those that are theirs or shared with them; administrators everything.",
     OPTIONS(account_add), 1, 1, cmd_account_add},
    {"account list", "", "list the accounts", NULL, OPTIONS(quiet), 0, 0, cmd_account_list},
    {"account show", "ACCOUNT", "show one account", NULL, NULL, 0, 1, 1, cmd_account_show},
    {"account set", "ACCOUNT", "change an account's quota or role",
     "Counts from the next request on. What its images take already is counted, also where there was no "
     "quota.",
     OPTIONS(account_set), 1, 1, cmd_account_set},
    {"account rm", "ACCOUNT", "remove an account", "One that owns images is not removed.", NULL, 0, 1, 1,
     cmd_account_rm},
    {"account password", "ACCOUNT", "give an account a new password", "Its tokens are void from then on.",
     OPTIONS(account_password), 1, 1, cmd_account_password},
    {"run", "IMAGE", "make an instance from an image and start it",
     "IMAGE is a name, an id, or an alias like debian:12 or debian:latest: the newest image of that os and "
     "version. Waits until the instance runs and prints its address. Warns where the loss of one host could "
     "then no longer be absorbed by the others.",
     OPTIONS(run), 1, 1, cmd_run},
    {"ls", "", "list the instances", NULL, OPTIONS(quiet), 0, 0, cmd_ls},
    {"show", "NAME", "show one instance",
     "A receipt says why a failover was safe: when the old host last gave a sign, who decided, which fence "
     "has been in force since when, and how long each phase took. The last 16 are kept with the instance.",
     OPTIONS(show), 1, 1, cmd_show},
    {"stop", "NAME", "stop an instance", NULL, OPTIONS(forced), 1, 1, cmd_stop},
    {"start", "NAME", "start an instance that is stopped", NULL, OPTIONS(wait_only), 1, 1, cmd_start},
    {"restart", "NAME", "restart an instance", NULL, OPTIONS(forced), 1, 1, cmd_restart},
    {"rm", "NAME", "remove an instance and its disks", NULL, OPTIONS(wait_only), 1, 1, cmd_rm},
    {"migrate", "NAME [HOST]", "move a running instance to another host",
     "Shows the progress, then the total time and the downtime. Without HOST the planner picks one. Ctrl-C "
     "ends the watching, not the move.",
     OPTIONS(moving), 1, 2, cmd_migrate},
    {"host list", "", "list the hosts", NULL, OPTIONS(quiet), 0, 0, cmd_host_list},
    {"host show", "HOST", "show one host, by name or number", NULL, NULL, 0, 1, 1, cmd_host_show},
    {"host drill", "HOST", "say what would happen if a host died now",
     "Where each of its instances would go, in the order in which they would be restarted, and which would "
     "find no room. It is computed by the very code that fails a host over, and changes nothing. Exit "
     "status: "
     "0 all would be restarted, 1 some would not.",
     NULL, 0, 1, 1, cmd_host_drill},
    {"host maintenance", "HOST on|off", "disarm or arm the failover of a host",
     "While it is on, nobody takes the host over: it may be rebooted, unplugged or upgraded, and its "
     "instances "
     "wait for it. Nothing moves, and new instances are still placed on it. Remember to turn it off.",
     NULL, 0, 2, 2, cmd_host_maintenance},
    {"failovers", "", "list the failovers of all instances",
     "The oldest first; of instances that were removed meanwhile none is told. \"wherry show NAME "
     "--history\" "
     "has the whole receipts of one.",
     OPTIONS(failovers), 0, 0, cmd_failovers},
    {"events", "", "print what happened", "The last 100 events, the oldest first.", OPTIONS(events), 0, 0,
     cmd_events},
    {"console", "NAME", "attach to an instance's serial console",
     "Ctrl-] ends it. Where standard input is not a terminal, bytes are passed on as they are until "
     "the console closes.",
     NULL, 0, 1, 1, cmd_console},
    {"store", "", "show the store that holds images and instances", NULL, NULL, 0, 0, 0, cmd_store},
    {"store check", "", "test the store's fence, and look for mistakes in its set-up",
     "The self-test runs now, in imaged and on every living host: it proves on scratch files that a "
     "take-over "
     "stops the previous writer. A host whose test fails takes nobody over. Beside that, what is known to "
     "go "
     "wrong is looked for, each with what to do. Exit status: 0 all is well, 1 it is not.",
     NULL, 0, 0, 0, cmd_store_check},
    {"version", "", "print the version", NULL, NULL, 0, 0, 0, cmd_version, .offline = true},
    {"completion", "SHELL", "print the completion for a shell, bash",
     "To use it in this shell: source <(wherry completion bash)", NULL, 0, 1, 1, cmd_completion,
     .offline = true},
    {"manual", "", "print the manual page as troff", NULL, NULL, 0, 0, 0, cmd_manual, .offline = true},
    {"help", "[COMMAND...]", "print the help", NULL, NULL, 0, 0, 2, cmd_help, .offline = true},
};
const size_t cli_n_commands = ARRAY_SIZE(cli_commands);
