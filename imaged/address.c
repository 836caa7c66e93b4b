/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/address.h"

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/util.h"

static bool inside_v4(uint32_t a)
{
        static const struct {
                uint32_t net;
                int bits;
        } nets[] = {{0, 8},           {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
                    {0xac100000, 12}, {0xc0000000, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xe0000000, 3}};

        for (size_t i = 0; i < ARRAY_SIZE(nets); i++) {
                if ((a ^ nets[i].net) >> (32 - nets[i].bits) == 0)
                        return true;
        }
        return false;
}

bool address_inside(const struct sockaddr *sa)
{
        const struct in6_addr *a = &((const struct sockaddr_in6 *)sa)->sin6_addr;
        const uint8_t *b = a->s6_addr;

        if (sa->sa_family == AF_INET)
                return inside_v4(ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr));
        if (sa->sa_family != AF_INET6)
                return true;
        if (IN6_IS_ADDR_V4MAPPED(a))
                return inside_v4((uint32_t)b[12] << 24 | (uint32_t)b[13] << 16 | (uint32_t)b[14] << 8 |
                                 b[15]);
        return (b[0] & 0xe0) != 0x20 ||
               (b[0] == 0x20 && b[1] == 0x02); /* what is not global unicast; 6to4 */
}
