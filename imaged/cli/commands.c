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
    {"--os", 0, "OS", NULL, "operating system: debian, windows"},
    {"--version", 0, "VERSION", NULL, "its version: 12, 2022"},
    {"--format", 0, "FORMAT", NULL,
     "raw, qcow2, iso, vmdk, vdi, vhd, vhdx or ova; default: found from the content, for a URL from its "
     "ending"},
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

static const struct cli_option run[] = {
    {"--name", 0, "NAME", NULL, "the instance's name; default: made from the image's"},
    {"--cpus", 0, "N", "1", "processor cores"},
    {"--memory", 0, "SIZE", "512M", "memory"},
    {"--disk", 0, "SIZE", NULL, "disk; default: 10G, or the image's size where that is larger"},
    {"--ssh-key", 0, "FILE", NULL, "public key that may log in, several times; default: ~/.ssh/id_*.pub"},
    {"--user-data", 0, "FILE", NULL, "cloud-init user data"},
    {"--host", 0, "HOST", NULL, "name or number of the host; default: the planner picks one"},
    {"--priority", 0, "N", "0", "a higher one is restarted first after a host's death"},
    {"--iso", 0, NULL, NULL,
     "IMAGE is an installer: an empty disk, and the ISO in the drive (found out by itself)"},
    {"--wait", 0, NULL, NULL, "wait until it runs (the default)"},
    NO_WAIT,
    TIMEOUT("120"),
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
    {"image add", "FILE|URL", "import a disk image or an ISO",
     "A file is checked and converted here, and only its data is sent; an image that is not safe is refused "
     "with every reason. The server fetches a URL by itself. Ctrl-C ends the import and removes the image.",
     OPTIONS(image_add), 1, 1, cmd_image_add},
    {"image inspect", "FILE", "show what an image is, and whether it is safe",
     "Works without a server. Shows the header's fields, and every reason to refuse the image: its field, "
     "the value found and the limit. The exit status is 0 if it is safe, 2 if it is refused, 1 if it cannot "
     "be read.",
     OPTIONS(image_inspect), 1, 1, cmd_image_inspect, .offline = true},
    {"image convert", "FILE OUT", "convert an image into a sparse raw disk",
     "Works without a server, with the checks of an import. OUT must not exist yet; Ctrl-C removes it.",
     OPTIONS(image_convert), 2, 2, cmd_image_convert, .offline = true},
    {"image list", "", "list the images", NULL, OPTIONS(quiet), 0, 0, cmd_image_list},
    {"image show", "IMAGE", "show one image", NULL, NULL, 0, 1, 1, cmd_image_show},
    {"image rm", "IMAGE", "remove an image", "An image that instances use is not removed.", NULL, 0, 1, 1,
     cmd_image_rm},
    {"run", "IMAGE", "make an instance from an image and start it",
     "Waits until the instance runs and prints its address.", OPTIONS(run), 1, 1, cmd_run},
    {"ls", "", "list the instances", NULL, OPTIONS(quiet), 0, 0, cmd_ls},
    {"show", "NAME", "show one instance", NULL, NULL, 0, 1, 1, cmd_show},
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
    {"events", "", "print what happened", "The last 100 events, the oldest first.", OPTIONS(events), 0, 0,
     cmd_events},
    {"console", "NAME", "attach to an instance's serial console",
     "Ctrl-] ends it. Where standard input is not a terminal, bytes are passed on as they are until "
     "the console closes.",
     NULL, 0, 1, 1, cmd_console},
    {"store", "", "show the store that holds images and instances", NULL, NULL, 0, 0, 0, cmd_store},
    {"version", "", "print the version", NULL, NULL, 0, 0, 0, cmd_version, .offline = true},
    {"completion", "SHELL", "print the completion for a shell, bash",
     "To use it in this shell: source <(wherry completion bash)", NULL, 0, 1, 1, cmd_completion,
     .offline = true},
    {"manual", "", "print the manual page as troff", NULL, NULL, 0, 0, 0, cmd_manual, .offline = true},
    {"help", "[COMMAND...]", "print the help", NULL, NULL, 0, 0, 2, cmd_help, .offline = true},
};
const size_t cli_n_commands = ARRAY_SIZE(cli_commands);
