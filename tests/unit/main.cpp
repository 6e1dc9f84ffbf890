// SPDX-License-Identifier: Apache-2.0
// A test program that broke its pipe should say so as a failed check, not die of SIGPIPE.
#define DOCTEST_CONFIG_IMPLEMENT
#include <csignal>

#include <doctest/doctest.h>

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);
    doctest::Context context{argc, argv};
    return context.run();
}
