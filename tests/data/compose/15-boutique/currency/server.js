server.listen(process.env.PORT);
