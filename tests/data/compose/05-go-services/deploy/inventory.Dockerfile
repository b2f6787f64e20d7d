FROM golang:1.22 AS build
WORKDIR /src
COPY . .
RUN go build -o bin/inventory ./cmd/inventory

FROM alpine:3.20
WORKDIR /app
COPY --from=build /src/bin/inventory .
EXPOSE 8080 9090
HEALTHCHECK --interval=5s CMD wget -q --spider http://localhost:8080/livez
ENTRYPOINT ["./inventory"]
