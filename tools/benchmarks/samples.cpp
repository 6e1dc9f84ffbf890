// SPDX-License-Identifier: Apache-2.0
#include "tools/benchmarks/samples.hpp"

#include "formats/error.hpp"
#include "tools/benchmarks/benchmarks.hpp"

#include <cstddef>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

namespace wherry::tools {

Samples::Samples(std::initializer_list<std::string_view> names, std::string label)
    : names_{names},
      label_{std::move(label)},
      by_figure_(names.size()) {}

void Samples::add(const std::vector<double>& figures) {
    formats::invariant(figures.size() == names_.size(), "a run has a figure of each name");
    for (std::size_t i = 0; i < figures.size(); ++i) {
        by_figure_[i].push_back(figures[i]);
    }
    print(fmt::format("{}", by_figure_.front().size()), figures);
}

void Samples::print_medians() const {
    std::vector<double> medians;
    for (const auto& values : by_figure_) {
        medians.push_back(median(values));
    }
    print("median", medians);
}

void Samples::print(std::string_view run, const std::vector<double>& figures) const {
    std::string text = fmt::format("{{{}\"run\":\"{}\"", label_, run);
    for (std::size_t i = 0; i < names_.size(); ++i) {
        text += fmt::format(",\"{}\":{:.3f}", names_[i], figures[i]);
    }
    fmt::print("{}}}\n", text);
    std::fflush(stdout);
}

} // namespace wherry::tools
