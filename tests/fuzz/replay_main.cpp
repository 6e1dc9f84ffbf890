// SPDX-License-Identifier: Apache-2.0
// replay_NAME CORPUS MUTATIONS: tries every file of the corpus, then MUTATIONS seeded mutations of
// them. A broken promise aborts; the input is then in "crash-input" in the working directory.
#include "fuzz_target.hpp"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

namespace {

using Input = std::vector<std::uint8_t>;

Input input_under_test; // for the signal handler

void keep_input(int) {
    const int file = ::open("crash-input", O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    // Nothing can be done about a failure here; the abort itself is the report.
    [[maybe_unused]] const auto written =
        ::write(file, input_under_test.data(), input_under_test.size());
    std::_Exit(1);
}

std::vector<Input> read_corpus(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator{folder}) {
        paths.push_back(entry.path());
    }
    std::ranges::sort(paths); // the same mutations everywhere
    std::vector<Input> corpus;
    for (const auto& path : paths) {
        std::ifstream file{path, std::ios::binary};
        corpus.emplace_back(std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{});
    }
    return corpus;
}

class Mutator {
public:
    Mutator(const std::vector<Input>& corpus, std::uint64_t seed)
        : corpus_{corpus},
          random_{seed} {}

    Input next() {
        Input input = corpus_[random_() % corpus_.size()];
        for (std::uint64_t step = random_() % 6; step > 0; --step) {
            mutate(input);
        }
        return input;
    }

private:
    void mutate(Input& input) {
        if (input.empty()) {
            input.push_back(static_cast<std::uint8_t>(random_()));
            return;
        }
        const auto at = static_cast<std::ptrdiff_t>(random_() % input.size());
        const auto length = static_cast<std::ptrdiff_t>(
            1 + random_() % std::min<std::size_t>(16, input.size() - static_cast<std::size_t>(at)));
        constexpr std::uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};
        switch (random_() % 6) {
        case 0:
            input[static_cast<std::size_t>(at)] ^= static_cast<std::uint8_t>(1U << random_() % 8);
            break;
        case 1:
            input[static_cast<std::size_t>(at)] = static_cast<std::uint8_t>(random_());
            break;
        case 2:
            std::fill_n(input.begin() + at, length, edges[random_() % std::size(edges)]);
            break;
        case 3:
            input.erase(input.begin() + at, input.begin() + at + length);
            break;
        case 4: {
            const Input piece(input.begin() + at, input.begin() + at + length);
            const auto to = static_cast<std::ptrdiff_t>(random_() % (input.size() + 1));
            input.insert(input.begin() + to, piece.begin(), piece.end());
            break;
        }
        default: { // the end of another input
            const Input& other = corpus_[random_() % corpus_.size()];
            const auto from = std::min(at, std::ssize(other));
            input.resize(static_cast<std::size_t>(at));
            input.insert(input.end(), other.begin() + from, other.end());
            break;
        }
        }
    }

    const std::vector<Input>& corpus_;
    std::mt19937_64 random_;
};

void try_input(Input input) {
    input_under_test = std::move(input);
    LLVMFuzzerTestOneInput(input_under_test.data(), input_under_test.size());
}

} // namespace

int main(int argc, char** argv) {
    std::uint64_t mutations = 0;
    if (argc != 3 ||
        std::from_chars(argv[2], argv[2] + std::string_view{argv[2]}.size(), mutations).ec !=
            std::errc{}) {
        fmt::print(stderr, "usage: {} CORPUS MUTATIONS\n", argv[0]);
        return 2;
    }
    const std::vector<Input> corpus = read_corpus(argv[1]);
    if (corpus.empty()) {
        fmt::print(stderr, "no inputs in {}\n", argv[1]);
        return 1;
    }
    std::signal(SIGABRT, keep_input);
    std::signal(SIGSEGV, keep_input);
    for (const Input& input : corpus) {
        try_input(input);
    }
    constexpr std::uint64_t seed = 20260101;
    Mutator mutator{corpus, seed};
    for (std::uint64_t i = 0; i < mutations; ++i) {
        try_input(mutator.next());
    }
    fmt::print("{} inputs of the corpus and {} mutations\n", corpus.size(), mutations);
    return 0;
}
