// Prices a European call on a stock by simulating its price at maturity many times.
//
// In:  the daily prices in $IEXEC_IN/$IEXEC_DATASET_FILENAME, the task id in $IEXEC_TASK_ID (seed), arguments.
// Out: $IEXEC_OUT/result.json and $IEXEC_OUT/computed.json. Exit code 2: bad arguments; 1: anything else.
//
// The same inputs give the same bytes on every machine: the workers' answers are compared.
#include "csv.h"
#include "normal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "usage: option-pricing [--strike DOLLARS] [--maturity YEARS] [--rate R] [--paths N]\n"
    "defaults: --strike <spot> --maturity 1 --rate 0.01 --paths 1000000\n";

struct request {
    double strike;  // US dollars; 0 = at the money
    double maturity;
    double rate;    // continuously compounded, per year
    long paths;
};

struct estimate {
    double price;
    double standard_error;
};

struct option {
    const char *name;
    double min, max;
    const char *range;
};

static const struct option OPTIONS[] = {
    {"--strike", 0.01, 1e6, "a number from 0.01 to 1000000 (US dollars)"},
    {"--maturity", 0.001, 50, "a number from 0.001 to 50 (years)"},
    {"--rate", -0.5, 0.5, "a number from -0.5 to 0.5 (per year)"},
    {"--paths", 100, 1e9, "a whole number from 100 to 1000000000"},
};
enum { STRIKE, MATURITY, RATE, PATHS, OPTION_COUNT };

// A decimal number such as -0.5 or 1e6: what strtod takes, less spaces, hex, nan and inf.
static int parse_number(const char *text, double *value) {
    char *end;
    if (strspn(text, "0123456789+-.eE") != strlen(text)) return -1;
    *value = strtod(text, &end);
    return end == text || *end != '\0' || !isfinite(*value) ? -1 : 0;
}

static int parse_option(const char *name, const char *text, double values[OPTION_COUNT], int seen[OPTION_COUNT]) {
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &OPTIONS[i];
        if (strcmp(name, option->name) != 0) continue;
        double value;
        if (!text || parse_number(text, &value) || value < option->min || value > option->max ||
            (i == PATHS && value != floor(value))) {
            fprintf(stderr, "error: %s %s: expected %s\n", name, text ? text : "", option->range);
            return -1;
        }
        if (seen[i]++) {
            fprintf(stderr, "error: %s is given twice\n", name);
            return -1;
        }
        values[i] = value;
        return 0;
    }
    fprintf(stderr, "error: unknown argument %s\n", name);
    return -1;
}

static int parse_request(int argc, char **argv, struct request *request) {
    double values[OPTION_COUNT] = {0, 1, 0.01, 1000000};
    int seen[OPTION_COUNT] = {0};
    for (int i = 1; i < argc; i += 2) {
        if (parse_option(argv[i], i + 1 < argc ? argv[i + 1] : NULL, values, seen)) {
            fputs(USAGE, stderr);
            return -1;
        }
    }
    *request = (struct request){values[STRIKE], values[MATURITY], values[RATE], (long)values[PATHS]};
    return 0;
}

// Annualised sample standard deviation of the daily log returns.
static double volatility(const double closes[CLOSES]) {
    double returns[RETURNS], mean = 0, squares = 0;
    for (int i = 0; i < RETURNS; i++) {
        returns[i] = log(closes[i + 1] / closes[i]);
        mean += returns[i] / RETURNS;
    }
    for (int i = 0; i < RETURNS; i++) squares += (returns[i] - mean) * (returns[i] - mean);
    return sqrt(squares / (RETURNS - 1) * 252);
}

// Geometric Brownian motion has a closed form at maturity: one normal number per path is enough.
static struct estimate simulate(const struct request *request, double spot, double sigma, struct normal *normal) {
    double drift = (request->rate - sigma * sigma / 2) * request->maturity;
    double spread = sigma * sqrt(request->maturity);
    double mean = 0, squares = 0;  // running mean and sum of squared deviations (Welford)
    for (long i = 1; i <= request->paths; i++) {
        double at_maturity = spot * exp(drift + spread * next_normal(normal));
        double payoff = at_maturity > request->strike ? at_maturity - request->strike : 0;
        double off = payoff - mean;
        mean += off / (double)i;
        squares += off * (payoff - mean);
    }
    double discount = exp(-request->rate * request->maturity);
    double variance = squares / (double)(request->paths - 1);
    return (struct estimate){discount * mean, discount * sqrt(variance / (double)request->paths)};
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    if (value && *value) return value;
    fprintf(stderr, "error: the environment variable %s is not set\n", name);
    return NULL;
}

static FILE *create(const char *folder, const char *name) {
    char path[1024];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = length < (int)sizeof path ? fopen(path, "wb") : NULL;
    if (!file) fprintf(stderr, "error: %s/%s cannot be written\n", folder, name);
    return file;
}

// Whether everything printed to `file` has reached it.
static int close_written(FILE *file, const char *name) {
    int failed = ferror(file);
    if (fclose(file) || failed) {
        fprintf(stderr, "error: %s could not be written in full\n", name);
        return -1;
    }
    return 0;
}

static int write_result(const char *folder, const struct request *request, const struct market *market, double sigma,
                        struct estimate estimate) {
    FILE *file = create(folder, "result.json");
    if (!file) return -1;
    fprintf(file, "{\n  \"price\": %.6f,\n  \"standardError\": %.6f,\n", estimate.price, estimate.standard_error);
    fprintf(file, "  \"spot\": %.10g,\n  \"spotDate\": \"%s\",\n", market->spot, market->last_date);
    fprintf(file, "  \"volatility\": %.10f,\n  \"strike\": %.10g,\n", sigma, request->strike);
    fprintf(file, "  \"maturity\": %.10g,\n  \"rate\": %.10g,\n", request->maturity, request->rate);
    fprintf(file, "  \"paths\": %ld\n}\n", request->paths);
    return close_written(file, "result.json");
}

static int write_computed(const char *folder) {
    FILE *file = create(folder, "computed.json");
    if (!file) return -1;
    fprintf(file, "{\"deterministic-output-path\": \"%s/result.json\"}\n", folder);
    return close_written(file, "computed.json");
}

static int run(const struct request *arguments) {
    const char *in = variable("IEXEC_IN"), *out = variable("IEXEC_OUT");
    const char *dataset = variable("IEXEC_DATASET_FILENAME"), *task = variable("IEXEC_TASK_ID");
    if (!in || !out || !dataset || !task) return -1;

    struct normal normal;
    if (seed_normal(&normal, task)) {
        fprintf(stderr, "error: IEXEC_TASK_ID is not 32 bytes in hex\n");
        return -1;
    }
    char path[1024];
    if (snprintf(path, sizeof path, "%s/%s", in, dataset) >= (int)sizeof path) {
        fprintf(stderr, "error: the path of the dataset is too long\n");
        return -1;
    }
    struct market market;
    if (read_market(path, &market)) return -1;

    struct request request = *arguments;
    if (request.strike == 0) request.strike = market.spot;
    double sigma = volatility(market.closes);
    struct estimate estimate = simulate(&request, market.spot, sigma, &normal);
    if (!isfinite(estimate.price) || !isfinite(estimate.standard_error)) {
        fprintf(stderr, "error: the prices in the dataset are beyond what can be simulated\n");
        return -1;
    }
    if (write_result(out, &request, &market, sigma, estimate) || write_computed(out)) return -1;
    printf("price %.4f +- %.4f (%ld paths)\n", estimate.price, estimate.standard_error, request.paths);
    return 0;
}

int main(int argc, char **argv) {
    struct request request;
    if (parse_request(argc, argv, &request)) return 2;
    return run(&request) ? 1 : 0;
}
