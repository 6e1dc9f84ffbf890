// SPDX-License-Identifier: Apache-2.0
// make_odd_pki KIND CA_DIRECTORY OUT_DIRECTORY: host certificates that `wherry pki` does not make,
// signed by a good CA. KIND: expired, early, swapped or elsewhere, which a peer must refuse; both,
// each for either end of a connection.
#include "transport/pki.hpp"

#include <array>
#include <chrono>
#include <string>

#include <fmt/format.h>

int main(int argc, char** argv) {
    using namespace wherry::transport;
    if (argc != 4) {
        fmt::print(stderr, "usage: make_odd_pki KIND CA_DIRECTORY OUT_DIRECTORY\n");
        return 2;
    }
    const std::string kind = argv[1];
    PkiOptions options;
    std::array hosts{std::string{"127.0.0.1"}};
    if (kind == "expired") {
        options.now -= std::chrono::days{100};
        options.host_validity = std::chrono::days{30};
    } else if (kind == "early") {
        options.now += std::chrono::days{100};
    } else if (kind == "swapped") {
        options.use = KeyUse::swapped;
    } else if (kind == "both") {
        options.use = KeyUse::both;
    } else if (kind == "elsewhere") {
        hosts = {std::string{"elsewhere.example"}};
    } else {
        fmt::print(stderr, "make_odd_pki: unknown kind {}\n", kind);
        return 2;
    }
    if (const auto made = issue_host(argv[2], argv[3], hosts, options); !made) {
        fmt::print(stderr, "make_odd_pki: {}\n", made.error().text());
        return 1;
    }
    return 0;
}
